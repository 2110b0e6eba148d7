"""What replicas must agree on, and their longer messages."""

import asyncio

import pytest

from llm_router.router.access.keys import StoredKey
from llm_router.router.access.sessions import StoredSession
from llm_router.router.store import bulletins, keys, shared_values
from llm_router.router.store.database import Database
from llm_router.router.store.postgres import PostgresDatabase
from llm_router.router.store.troubles import Rejected


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


KEY = StoredKey("k1", "laptop", "h1", "inference", [], created=1.0, expires=0.0, last_used=5.0)
SESSION = StoredSession("s1", "laptop", created=1.0, expires=50.0)


async def test_uses_are_noted_and_never_go_back(database: Database) -> None:
    """Another replica may have seen them later."""
    await database.run(keys.add_key, KEY)
    await database.run(keys.put_sessions, [SESSION])
    for moment in (7.0, 6.0):
        used = StoredSession("s1", "laptop", 1.0, moment * 10)
        await database.run(keys.note_uses, {"k1": moment}, [used], [])
    assert [key.last_used for key in await database.run(keys.load_keys)] == [7.0]
    assert [session.expires for session in await database.run(keys.load_sessions)] == [70.0]


async def test_what_another_replica_has_ended_stays_ended(database: Database) -> None:
    """A key that was revoked there, a session that was signed out of."""
    await database.run(keys.note_uses, {"k1": 7.0}, [SESSION], [])
    assert await database.run(keys.load_keys) == []
    assert await database.run(keys.load_sessions) == []


async def test_a_session_that_is_over_goes(database: Database) -> None:
    """With the next note."""
    await database.run(keys.put_sessions, [SESSION])
    await database.run(keys.note_uses, {}, [], ["s1"])
    assert await database.run(keys.load_sessions) == []


async def test_two_keys_never_share_a_secret(postgres: PostgresDatabase) -> None:
    """The database says no, and does not say to what."""
    await postgres.run(keys.add_key, KEY)
    with pytest.raises(Rejected, match="keys_hash_key") as raised:
        await postgres.run(keys.add_key, StoredKey("k2", "tower", "h1", "inference", [], 1.0, 0.0, 0.0))
    assert "h1" not in str(raised.value)
