"""Keys, login links and sessions as the database keeps them, for one router or several (requirement A10)."""

import pytest
from sqlalchemy import text

from llm_router.router.access import statements
from llm_router.router.access.keys import StoredKey
from llm_router.router.access.sessions import StoredLink, StoredSession
from llm_router.router.store.database import Database
from llm_router.router.store.postgres import PostgresDatabase
from llm_router.router.store.troubles import Rejected

KEY = StoredKey("k1", "laptop", "h1", "inference", [], created=1.0, expires=0.0, last_used=5.0)
SESSION = StoredSession("s1", "laptop", created=1.0, expires=50.0)


async def test_uses_are_noted_and_never_go_back(database: Database) -> None:
    """Another replica may have seen them later."""
    await database.run(statements.add_key, KEY)
    await database.run(statements.put_sessions, [SESSION])
    for moment in (7.0, 6.0):
        used = StoredSession("s1", "laptop", 1.0, moment * 10)
        await database.run(statements.note_uses, {"k1": moment}, [used], [])
    assert [key.last_used for key in await database.run(statements.load_keys)] == [7.0]
    assert [session.expires for session in await database.run(statements.load_sessions)] == [70.0]


async def test_what_another_replica_has_ended_stays_ended(database: Database) -> None:
    """A key that was revoked there, a session that was signed out of."""
    await database.run(statements.note_uses, {"k1": 7.0}, [SESSION], [])
    assert await database.run(statements.load_keys) == []
    assert await database.run(statements.load_sessions) == []


async def test_a_session_that_is_over_goes(database: Database) -> None:
    """With the next note."""
    await database.run(statements.put_sessions, [SESSION])
    await database.run(statements.note_uses, {}, [], ["s1"])
    assert await database.run(statements.load_sessions) == []


async def test_two_keys_never_share_a_secret(postgres: PostgresDatabase) -> None:
    """The database says no, and does not say to what."""
    await postgres.run(statements.add_key, KEY)
    with pytest.raises(Rejected, match="keys_hash_key") as raised:
        await postgres.run(statements.add_key, StoredKey("k2", "tower", "h1", "inference", [], 1.0, 0.0, 0.0))
    assert "h1" not in str(raised.value)


async def test_a_link_ends(database: Database) -> None:
    """After its time, with the key that it was made with, or with the first use; the next one clears what is over."""
    await database.run(statements.add_key, KEY)
    late, revoked, good = (StoredLink(name, whose, 600.0) for name, whose in (("a", ""), ("b", KEY.name), ("c", "")))
    for link in (late, revoked, good):
        await database.run(statements.add_link, link, 0.0)
    await database.run(statements.remove, [KEY.id], [])
    assert await database.run(statements.use_link, revoked.hash, 1.0) is None
    assert await database.run(statements.use_link, good.hash, 1.0) == ""
    assert await database.run(statements.use_link, good.hash, 1.0) is None
    assert await database.run(statements.use_link, late.hash, 600.0) is None
    await database.run(statements.add_link, good, 600.0)
    assert await database.run(lambda c: c.execute(text("SELECT hash FROM login_links")).scalars().all()) == [good.hash]
