"""Access, put together, with a real database."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, text
from tests.router.replicas.said import Said

from llm_router.config import RouterConfig
from llm_router.errors import TooManyAttempts, Unauthorized, Unavailable
from llm_router.router.access import statements
from llm_router.router.access.access import Access, access_of
from llm_router.router.access.keys import KeyNotFound, NewKey
from llm_router.router.access.throttle import BURST
from llm_router.router.access.who import Who
from llm_router.router.replicas.base import Alone
from llm_router.router.replicas.messages import AccessChanged
from llm_router.router.store.database import Database

Told = list[tuple[str, str, str]]
ME = Who("key", "admin", "ops")
CLIENT = "192.168.1.5"


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
async def access(database: Database, told: Told) -> AsyncIterator[Access]:
    async with access_of(RouterConfig(), database, lambda *event: told.append(event), Alone()) as opened:
        yield opened


def cookie_of(line: str) -> bytes:
    return line.partition(";")[0].encode()


def token_of(path: str) -> str:
    return path.partition("token=")[2]


def drop_tables(connection: Connection) -> None:
    for table in ("keys", "sessions", "login_links"):
        connection.execute(text(f"DROP TABLE {table}"))


async def again(database: Database) -> Access:
    """As after a restart."""
    restarted = Access(RouterConfig(), database, lambda *_: None, Alone())
    await restarted.restore()
    return restarted


async def test_what_an_operator_does_is_done_and_told(access: Access, database: Database, told: Told) -> None:
    """Keys outlive a restart, revoked ones do not; events say who did what, and never the key."""
    view, secret = await access.create(NewKey("ci", models=["m"]), ME)
    assert (await again(database)).keys.find(secret.encode(), time.time())
    await access.revoke("ci", ME)
    assert access.keys.find(secret.encode(), time.time()) is None
    assert (await again(database)).keys.find(secret.encode(), time.time()) is None
    assert told == [
        ("key.created", "ci", f"by key 'ops': {view.id}, scope inference, models m"),
        ("key.revoked", "ci", f"by key 'ops': {view.id}"),
    ]
    with pytest.raises(KeyNotFound):
        await access.revoke("ci", ME)


async def test_a_link_signs_in_once(access: Access, database: Database, told: Told) -> None:
    """The session outlives a restart until it is ended; the events show no token."""
    path, _ = await access.login_link(ME)
    cookie = cookie_of(await access.sign_in(token_of(path), CLIENT))
    session = access.sessions.of(cookie, time.time())
    assert session is not None
    assert session.grant.name == "ops"
    assert (await again(database)).sessions.of(cookie, time.time())
    with pytest.raises(Unauthorized):
        await access.sign_in(token_of(path), CLIENT)
    assert "Max-Age=0" in await access.sign_out(cookie)
    assert access.sessions.of(cookie, time.time()) is None
    assert (await again(database)).sessions.of(cookie, time.time()) is None
    assert [event for event, _, _ in told] == ["login.link_made", "login.done", "access.refused"]
    assert not any(token_of(path) in detail for _, _, detail in told)


async def test_an_admin_key_signs_in_and_takes_its_sessions_along(access: Access, database: Database) -> None:
    """One for inference does not; revoked, a key's sessions and links are over."""
    _, admin = await access.create(NewKey("ops", scope="admin"), ME)
    _, plain = await access.create(NewKey("ci"), ME)
    with pytest.raises(Unauthorized):
        await access.sign_in(plain, CLIENT)
    cookie = cookie_of(await access.sign_in(f" {admin}\n", CLIENT))
    path, _ = await access.login_link(ME)
    await access.revoke("ops", Who("local", "admin"))
    assert access.sessions.of(cookie, time.time()) is None
    assert (await again(database)).sessions.of(cookie, time.time()) is None
    with pytest.raises(Unauthorized):
        await access.sign_in(token_of(path), CLIENT)


async def test_wrong_tokens_are_throttled_and_told_once(access: Access, told: Told) -> None:
    """429 with the seconds to wait; a right one is taken all the same."""
    for _ in range(int(BURST)):
        with pytest.raises(Unauthorized):
            await access.sign_in("wrong", CLIENT)
    with pytest.raises(TooManyAttempts) as refused:
        await access.sign_in("wrong", CLIENT)
    assert refused.value.retry_after > 0
    assert told == [("access.refused", CLIENT, "/login: invalid_api_key")]
    assert await access.sign_in(token_of((await access.login_link(ME))[0]), CLIENT)


async def test_uses_are_written_now_and_then(access: Access, database: Database) -> None:
    """Beside the requests; what is over is forgotten, what was not used stays unwritten."""
    _, secret = await access.create(NewKey("ci"), ME)
    over, _ = access.sessions.begin("", 0.0)
    await database.run(statements.put_sessions, [over.stored()])
    access.keys.find(secret.encode(), used := time.time() + 5)
    await access.write_uses()
    (stored,) = await database.run(statements.load_keys)
    assert stored.last_used == used
    assert await database.run(statements.load_sessions) == []
    await access.write_uses()


async def test_uses_are_written_at_the_end(database: Database) -> None:
    """A router that stops knows afterwards what was used in its last minute."""
    async with access_of(RouterConfig(), database, lambda *_: None, Alone()) as access:
        _, secret = await access.create(NewKey("ci"), ME)
        access.keys.find(secret.encode(), used := time.time())
    assert (await database.run(statements.load_keys))[0].last_used == used


async def test_without_the_database(access: Access, database: Database) -> None:
    """A key that cannot be written is not made; one that cannot be deleted fails at once all the same.

    People can sign in by an administrator's key: their sessions last as long as the router.
    """
    _, secret = await access.create(NewKey("ci"), ME)
    _, admin = await access.create(NewKey("ops", scope="admin"), ME)
    await database.run(drop_tables)
    with pytest.raises(Unavailable):
        await access.create(NewKey("another"), ME)
    with pytest.raises(KeyNotFound):
        access.keys.named("another")
    with pytest.raises(Unavailable, match="restart"):
        await access.revoke("ci", ME)
    assert access.keys.find(secret.encode(), time.time()) is None
    with pytest.raises(Unavailable):
        await access.login_link(ME)
    with pytest.raises(Unavailable):
        await access.sign_in("a token that may be a link's", CLIENT)
    assert access.sessions.of(cookie_of(await access.sign_in(admin, CLIENT)), time.time())


# -- several replicas


class Pair:
    """Two replicas of one database, and what the first has said."""

    def __init__(self, database: Database) -> None:
        self.said = Said()
        self.first = Access(RouterConfig(), database, lambda *_: None, self.said)
        self.second = Access(RouterConfig(), database, lambda *_: None, Said())


@pytest.fixture
def pair(database: Database) -> Pair:
    return Pair(database)


async def test_what_another_replica_did_is_taken_over(pair: Pair) -> None:
    """A key made there is good here; revoked there, it is of no use, nor are its links and sessions."""
    view, secret = await pair.first.create(NewKey("ops", scope="admin"), ME)
    assert pair.said.said == [AccessChanged()]
    await pair.second.restore()
    assert pair.second.keys.find(secret.encode(), time.time())
    cookie = cookie_of(await pair.second.sign_in(secret, CLIENT))
    path, _ = await pair.second.login_link(ME)
    await pair.first.restore()
    assert pair.first.sessions.of(cookie, time.time())
    await pair.first.revoke(view.id, ME)
    await pair.second.restore()
    assert pair.second.keys.find(secret.encode(), time.time()) is None
    assert pair.second.sessions.of(cookie, time.time()) is None
    with pytest.raises(Unauthorized):
        await pair.second.sign_in(token_of(path), CLIENT)


async def test_what_is_said_to_be_done_holds_at_all(pair: Pair) -> None:
    """Who has made, revoked, begun or ended something may be at another replica with the next request."""
    _, secret = await pair.first.create(NewKey("ops", scope="admin"), ME)
    assert pair.said.waited == 1
    cookie = cookie_of(await pair.first.sign_in(secret, CLIENT))
    assert pair.said.waited == 2
    await pair.first.sign_out(cookie)
    assert pair.said.waited == 3
    await pair.first.revoke("ops", ME)
    assert pair.said.waited == 4


async def test_what_is_known_better_here_stays(pair: Pair) -> None:
    """When a key was used last, and until when a session goes on: the database hears of that once a minute."""
    _, secret = await pair.first.create(NewKey("ops", scope="admin"), ME)
    cookie = cookie_of(await pair.first.sign_in(secret, CLIENT))
    later = time.time() + 50
    assert pair.first.keys.find(secret.encode(), later)
    session = pair.first.sessions.of(cookie, later)
    assert session is not None
    await pair.first.restore()
    assert pair.first.keys.named("ops").used == later
    (kept,) = pair.first.sessions
    assert kept.expires == session.expires


async def test_a_link_made_at_one_signs_in_at_another_once(pair: Pair, database: Database) -> None:
    """At once, and of all who try at the same time one; the database does not know the token."""
    path, _ = await pair.first.login_link(ME)
    kept = await database.run(lambda c: c.execute(text("SELECT * FROM login_links")).all())
    assert token_of(path) not in repr(kept)
    tries = [access.sign_in(token_of(path), CLIENT) for access in (pair.first, pair.second) * 2]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == [*3 * ["Unauthorized"], "str"]


def rename(connection: Connection, before: str, after: str) -> None:
    connection.execute(text(f"ALTER TABLE {before} RENAME TO {after}"))


async def test_what_is_owed_to_the_database_is_paid_before_it_is_read(pair: Pair, database: Database) -> None:
    """A key that was revoked while the database was away does not come back, here or anywhere."""
    view, secret = await pair.first.create(NewKey("ops", scope="admin"), ME)
    cookie = cookie_of(await pair.first.sign_in(secret, CLIENT))
    await database.run(rename, "keys", "elsewhere")
    with pytest.raises(Unavailable):
        await pair.first.revoke(view.id, ME)
    with pytest.raises(Unavailable):
        await pair.first.restore()
    await database.run(rename, "elsewhere", "keys")
    pair.said.said.clear()
    await pair.first.restore()
    assert pair.said.said == [AccessChanged()]  # the others shall read it, too
    for access in (pair.first, pair.second):
        await access.restore()
        assert access.keys.find(secret.encode(), time.time()) is None
        assert access.sessions.of(cookie, time.time()) is None


async def test_who_signed_in_without_the_database_stays_signed_in(pair: Pair, database: Database) -> None:
    """Their session is written when it is back, and counts everywhere."""
    path, _ = await pair.first.login_link(ME)
    await database.run(rename, "sessions", "elsewhere")
    cookie = cookie_of(await pair.first.sign_in(token_of(path), CLIENT))
    await database.run(rename, "elsewhere", "sessions")
    await pair.first.restore()
    assert pair.first.sessions.of(cookie, time.time())
    await pair.second.restore()
    assert pair.second.sessions.of(cookie, time.time())
