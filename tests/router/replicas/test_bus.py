"""The connection between replicas, on a real PostgreSQL (requirements I1, A8)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import asyncpg
import pytest
from structlog.testing import capture_logs
from tests.router.ending_server import ending_server

from llm_router.router.replicas import bus as module
from llm_router.router.replicas.bus import Bus
from llm_router.router.replicas.messages import LONGEST, Fetching, Hello, Left, Message, Suspected
from llm_router.router.store.schema import CHANNEL
from llm_router.router.store.urls import dsn

if TYPE_CHECKING:
    from tests.postgres import Cluster

LONG = Suspected("n", "東" * LONGEST)


class Replica:
    """A bus, and what it has heard."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.bus = Bus(url, name)
        self.heard: list[tuple[str, Message]] = []
        self.connected = 0
        self._changed = asyncio.Event()

    async def start(self) -> None:
        await self.bus.start(self._hear, self._connects)

    def _hear(self, sender: str, message: Message) -> None:
        self.heard.append((sender, message))
        self._changed.set()

    def _connects(self) -> None:
        self.connected += 1
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def hears(self, *said: Message) -> None:
        """All of these, after all that it has heard."""
        await self.until(lambda: [message for _, message in self.heard][-len(said) :] == list(said))


Starts = Callable[..., Awaitable[Replica]]  # of a name, and of a URL that is not the database's own


@pytest.fixture
async def start(postgres_place: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Starts]:
    """Starts a replica, which is stopped at the end."""
    monkeypatch.setattr(module, "DUTY_EVERY", 0.05)
    monkeypatch.setattr(module, "REST", 0.05)
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, url: str = postgres_place) -> Replica:
            replica = Replica(url, name)
            await replica.start()
            stack.push_async_callback(replica.bus.stop)
            return replica

        yield start


@pytest.fixture
async def sql(postgres_place: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Somebody else at the same database."""
    connection = await asyncpg.connect(dsn(postgres_place))
    yield connection
    await connection.close()


async def until(condition: Callable[[], bool]) -> None:
    """For what nobody tells of."""
    while not condition():  # noqa: ASYNC110 - as the line above says
        await asyncio.sleep(0.01)  # noqa: TID251 - as above


async def test_each_hears_the_others_and_not_itself(start: Starts) -> None:
    """In the order in which it was said, with who said it."""
    one, two, three = [await start(name) for name in ("one", "two", "three")]
    said = [Left(f"n{number}") for number in range(100)]
    for message in said:
        one.bus.send(message)
    await two.hears(*said)
    await three.hears(*said)
    assert {sender for sender, _ in two.heard} == {"one"}
    two.bus.send(Hello())
    await one.hears(Hello())
    assert one.heard == [("two", Hello())]
    assert one.connected == two.connected == 1


async def test_what_is_too_long_for_a_letter_arrives(start: Starts) -> None:
    """By a row of a table, whole; what was said before and after it, too."""
    one, two = await start("one"), await start("two")
    for message in (Left("a"), LONG, LONG, Left("b")):
        one.bus.send(message)
    await two.until(lambda: len(two.heard) == 4)
    assert [message for _, message in two.heard].count(LONG) == 2


async def test_letters_of_strangers_do_no_harm(start: Starts, sql: "asyncpg.Connection[asyncpg.Record]") -> None:
    """No JSON, another version's, a row that is gone: what comes after them is heard."""
    one, two = await start("one"), await start("two")
    for text in ("", "x", '{"sender":"three","messages":[{"type":"sung"}]}', '{"sender":"three","bulletin":99}'):
        await sql.execute("SELECT pg_notify($1, $2)", CHANNEL, text)
    one.bus.send(Left("n"))
    await two.hears(Left("n"))
    assert two.bus.trouble == ""


async def test_one_is_on_duty_and_another_when_it_stops(start: Starts) -> None:
    """However it ends: the lock is its connection's."""
    one = await start("one")
    await until(lambda: one.bus.on_duty)
    two, three = await start("two"), await start("three")
    two.bus.send(Hello())
    await three.hears(Hello())  # by then it has tried, too
    assert not two.bus.on_duty
    assert not three.bus.on_duty
    await one.bus.stop()
    await until(lambda: two.bus.on_duty or three.bus.on_duty)
    two.bus.send(Hello())
    await three.hears(Hello(), Hello())
    assert two.bus.on_duty != three.bus.on_duty


async def test_who_stops_says_what_it_had_to_say(start: Starts) -> None:
    """All of it, and then it is gone."""
    one, two = await start("one"), await start("two")
    said: list[Message] = [LONG, *(Fetching(f"n{number}", "m" * 200) for number in range(100))]
    for message in said:
        one.bus.send(message)
    await one.bus.stop()
    await two.until(lambda: len(two.heard) == len(said))


async def cut(sql: "asyncpg.Connection[asyncpg.Record]") -> None:
    """The server ends all connections but this one."""
    await sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


async def test_a_connection_that_is_cut_is_made_again(start: Starts, sql: "asyncpg.Connection[asyncpg.Record]") -> None:
    """At once, with nothing to say; whoever is back is told, and says that it is, and one is on duty again."""
    one = await start("one")
    await until(lambda: one.bus.on_duty)
    two = await start("two")
    with capture_logs() as logged:
        await cut(sql)
        await one.until(lambda: one.connected == 2)
        await two.until(lambda: two.connected == 2)
    told = [line["event"] for line in logged]
    assert (told.count("replicas.alone"), told.count("replicas.connected")) == (2, 2)
    assert all(line["reason"] for line in logged if line["event"] == "replicas.alone")
    assert one.bus.trouble == two.bus.trouble == ""
    one.bus.send(Left("n"))
    await two.hears(Left("n"))
    await until(lambda: one.bus.on_duty or two.bus.on_duty)


async def test_a_server_that_says_that_it_ends(start: Starts, postgres_place: str) -> None:
    """Whoever says something between that word and the end of the connection finds another one, too."""
    async with ending_server(postgres_place) as server:
        one, two = await start("one", server.url), await start("two")
        server.says_that_it_ends()
        await asyncio.sleep(0.05)  # noqa: TID251 - nobody tells that asyncpg has read it; too early shows nothing
        one.bus.send(Left("lost"))
        await one.until(lambda: one.connected == 2)
        one.bus.send(Left("n"))
        await two.hears(Left("n"))
        await one.bus.stop()


async def test_without_the_database_each_is_on_its_own(cluster: "Cluster", start: Starts) -> None:
    """It says why, does what only one should do, and keeps nothing to say; then it is back."""
    one = await start("one")
    two = await start("two")
    await asyncio.to_thread(cluster.stop)
    try:
        await until(lambda: bool(one.bus.trouble and two.bus.trouble))
        assert one.bus.on_duty
        assert two.bus.on_duty
        one.bus.send(Left("lost"))
    finally:
        await asyncio.to_thread(cluster.start)
    await one.until(lambda: one.connected == 2)
    await two.until(lambda: two.connected == 2)
    one.bus.send(Left("n"))
    await two.hears(Left("n"))
    assert two.heard == [("one", Left("n"))]


async def test_who_stops_while_there_is_no_database_does_not_wait_for_it(cluster: "Cluster", start: Starts) -> None:
    """A service manager would kill it."""
    one = await start("one")
    await asyncio.to_thread(cluster.stop)
    try:
        await until(lambda: bool(one.bus.trouble))
        await one.bus.stop()
    finally:
        await asyncio.to_thread(cluster.start)


async def test_who_cannot_connect_at_the_start_says_so(postgres_place: str) -> None:
    """The caller makes an error of it that people read."""
    nowhere = Replica(postgres_place.rpartition("/")[0] + "/nowhere", "one")
    with pytest.raises(asyncpg.PostgresError, match="nowhere"):
        await nowhere.start()
    await nowhere.bus.stop()


async def test_what_cannot_be_said_ends_nothing(start: Starts) -> None:
    """A fault of ours costs what was to be said, and a connection."""
    one, two = await start("one"), await start("two")
    with capture_logs() as logged:
        one.bus.send(Suspected("n", "\ud800"))  # half of a character: no UTF-8 has it
        await one.until(lambda: one.connected == 2)
    assert "replicas.failed" in [line["event"] for line in logged]
    one.bus.send(Left("n"))
    await two.hears(Left("n"))
