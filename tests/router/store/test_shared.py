"""What replicas must agree on, and their longer messages."""

import asyncio

from llm_router.router.store import bulletins, shared_values
from llm_router.router.store.database import Database
from llm_router.router.store.postgres import PostgresDatabase


async def test_the_first_value_counts(database: Database) -> None:
    """Each replica offers its own join token, and all take the same (requirement A10)."""
    assert await database.run(shared_values.load, "token") is None
    assert await database.run(shared_values.put_new, "token", "mine") == "mine"
    assert await database.run(shared_values.put_new, "token", "yours") == "mine"
    await database.run(shared_values.put, "token", "new")
    await database.run(shared_values.put, "other", "o")
    assert await database.run(shared_values.load, "token") == "new"


async def test_replicas_that_offer_at_once_agree(postgres: PostgresDatabase) -> None:
    """Whichever came first."""
    offers = [postgres.run(shared_values.put_new, "token", str(number)) for number in range(10)]
    assert len(set(await asyncio.gather(*offers))) == 1


async def test_long_messages_are_read_by_their_numbers(database: Database) -> None:
    """In whatever script, however long; the old ones go."""
    assert await database.run(bulletins.add, [], 1.0) == []
    long = "東" * 100_000
    first = await database.run(bulletins.add, ["a", "b"], 1.0)
    (second,) = await database.run(bulletins.add, [long], 2.0)
    assert [await database.run(bulletins.get, seq) for seq in (*first, second)] == ["a", "b", long]
    await database.run(bulletins.trim, 2.0)
    assert [await database.run(bulletins.get, seq) for seq in (*first, second)] == [None, None, long]
