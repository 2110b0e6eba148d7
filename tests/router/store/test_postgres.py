"""PostgreSQL, when it is well and when it is not: whoever asked is told, soon, and loses nothing."""

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import msgspec
import pytest
from sqlalchemy import Connection, text
from tests.router.ending_server import ending_server
from tests.router.recording import record

from llm_router.core.health import State
from llm_router.errors import ConfigError
from llm_router.router.store import postgres as module
from llm_router.router.store import queries
from llm_router.router.store.bodies import Body, add_bodies, latest_body
from llm_router.router.store.postgres import PostgresDatabase
from llm_router.router.store.queries import Event, EventFilter, News, RequestFilter, StoredNode
from llm_router.router.store.troubles import NotNow, Rejected
from llm_router.router.store.urls import dsn

if TYPE_CHECKING:
    from tests.postgres import Cluster

HAPPENED = News(events=[Event(1.0, "e", "n", "n", "")])


def events(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM events")).scalar_one())


async def test_work_is_done_in_one_transaction_and_on_the_loop(postgres: PostgresDatabase) -> None:
    """What fails leaves nothing behind."""

    def write_and_fail(connection: Connection) -> None:
        queries.write(connection, HAPPENED)
        assert threading.current_thread() is threading.main_thread()
        raise LookupError

    with pytest.raises(LookupError):
        await postgres.run(write_and_fail)
    assert await postgres.run(events) == 0


async def test_a_long_read_holds_up_nobody(postgres: PostgresDatabase) -> None:
    """Somebody looks through the history while the ledger writes."""
    began = asyncio.Event()

    def read(connection: Connection) -> int:
        began.set()
        connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
        return events(connection)

    other = await asyncpg.connect(dsn(postgres.url))
    await other.execute("SELECT pg_advisory_lock(1)")
    reading = asyncio.create_task(postgres.run(read))
    await began.wait()
    await postgres.append([record()])
    await postgres.run(queries.write, HAPPENED)
    assert not reading.done()
    await other.close()
    assert await reading == 1


async def test_a_caller_that_is_cancelled_leaves_its_work_under_way(postgres: PostgresDatabase) -> None:
    """It is done whole, and the connection is of use for the next."""
    began = asyncio.Event()

    def write(connection: Connection) -> None:
        began.set()
        queries.write(connection, HAPPENED)

    writing = asyncio.create_task(postgres.run(write))
    await began.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await postgres.close()  # it waits for what is under way
    assert await postgres.run(events) == 1


async def test_a_server_that_was_started_again_costs_nothing(cluster: "Cluster", postgres: PostgresDatabase) -> None:
    """Its connections are known to be closed."""
    await postgres.append([record()])
    await asyncio.to_thread(cluster.stop)
    await asyncio.to_thread(cluster.start)
    await postgres.append([record()])
    assert await postgres.run(queries.last_request) == 2


async def test_a_server_that_is_gone_is_worth_another_try(cluster: "Cluster", postgres: PostgresDatabase) -> None:
    """Requirement F4: nothing is written until then, and all of it afterwards."""
    await asyncio.to_thread(cluster.stop)
    with pytest.raises(NotNow):
        await postgres.append([record()])
    with pytest.raises(NotNow):
        await postgres.run(queries.write, HAPPENED)
    await asyncio.to_thread(cluster.start)
    assert await postgres.run(queries.last_request) == await postgres.run(events) == 0
    await postgres.append([record()])
    assert await postgres.run(queries.last_request) == 1


@pytest.fixture
def impatient(postgres_place: str, monkeypatch: pytest.MonkeyPatch) -> PostgresDatabase:
    """A second each: as short as a busy machine that answers lets it be."""
    for name in ("CONNECT_TIMEOUT", "COMMAND_TIMEOUT", "CLOSE_TIMEOUT"):
        monkeypatch.setattr(module, name, 1.0)
    return PostgresDatabase(postgres_place, "r1")


async def test_a_server_that_hangs_is_not_waited_for(cluster: "Cluster", impatient: PostgresDatabase) -> None:
    """On connections that there are and on new ones, at work and at the end; then it goes on as before."""

    def pause_before_the_end(connection: Connection) -> None:
        queries.write(connection, HAPPENED)
        cluster.pause()

    await impatient.append([record()])
    try:
        with pytest.raises(NotNow, match=r"^it does not answer$"):
            await impatient.run(pause_before_the_end)
        for _ in range(2):
            with pytest.raises(NotNow, match=r"^it does not answer$"):
                await impatient.append([record()])
        await impatient.close()
    finally:
        cluster.resume()
    await impatient.append([record()])
    await impatient.close()


async def test_a_statement_that_takes_too_long_is_ended(impatient: PostgresDatabase) -> None:
    """On the server too, which would be busy with it."""

    def sleep(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(60)"))

    def sleeping(connection: Connection) -> int:
        found = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
        )
        return int(connection.execute(found).scalar_one())

    with pytest.raises(NotNow, match=r"^it does not answer$"):
        await impatient.run(sleep)
    while await impatient.run(sleeping):
        pass
    await impatient.close()


STRANGE = {
    "a\0b": "a\ufffdb",
    "half \ud83d": "half ?",
    "\0\ud83d東": "\ufffd?東",
    "'\"\\ \n\x01\x7f": "'\"\\ \n\x01\x7f",
    "東🙂": "東🙂",
}


async def test_a_strange_text_takes_nothing_along(postgres: PostgresDatabase) -> None:
    """What no PostgreSQL can hold is replaced; its batch is there, and it can be found by what it was."""
    await postgres.append([record(id=str(n), model=strange) for n, strange in enumerate(STRANGE)])
    await postgres.run(queries.write, News(events=[Event(1.0, "e", "n", strange, strange) for strange in STRANGE]))
    for number, (strange, kept) in enumerate(STRANGE.items()):
        (found,) = await postgres.run(queries.latest_requests, 9, RequestFilter(model=strange))
        assert (found.id, found.model) == (str(number), kept)
        (event,) = await postgres.run(queries.latest_events, 9, EventFilter(node=strange))
        assert event.detail == kept
    await postgres.run(add_bodies, [Body("r1", 1.0, "a\0b", "")])
    assert await postgres.run(latest_body, "r1") == Body("r1", 1.0, "a\ufffdb", "")


async def test_a_strange_number_takes_nothing_along(postgres: PostgresDatabase) -> None:
    """A runtime may say what it likes."""
    strange = record(prompt_tokens=1 << 70, completion_tokens=-(1 << 70), seconds=float("nan"), first_byte=float("inf"))
    await postgres.append([record(id="one"), strange, record(id="two")])
    two, kept, one = await postgres.run(queries.latest_requests, 3)
    assert (one.id, two.id) == ("one", "two")
    assert (kept.prompt_tokens, kept.completion_tokens, kept.seconds, kept.first_byte) == (2**63 - 1, 0, 0.0, 0.0)


async def test_what_cannot_be_kept_is_rejected_and_not_quoted(postgres: PostgresDatabase) -> None:
    """It may be a secret."""
    with pytest.raises(Rejected, match=r"^a value that does not fit$"):
        await postgres.run(lambda c: c.execute(text("SELECT CAST(:n AS int)"), {"n": 1 << 40}))


NODE = StoredNode("", "box", "agent", "http://h:1", [], 1, "Linux", False, State.ONLINE, [], 1.0)  # noqa: FBT003 - a row


NAMES = [f"n{number:02}" for number in range(40)]
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.mark.parametrize(
    "held",
    [
        "UPDATE nodes SET name = 'held' WHERE id = 'n20'",
        "INSERT INTO request_blocks (about, value, block) VALUES ('model', 'n20', 0)",
    ],
    ids=["nodes", "index"],
)
async def test_replicas_do_not_wait_for_each_other_crosswise(postgres: PostgresDatabase, held: str) -> None:
    """Both write the same rows, one in the other's opposite order, and meet in the middle: neither is ended for it."""
    nodes = [msgspec.structs.replace(NODE, id=name) for name in NAMES]
    records = [record(model=name, node=name, node_id=name) for name in NAMES]
    await postgres.run(queries.write, News(nodes=nodes))
    other = PostgresDatabase(postgres.url, "r2")

    async def write(replica: PostgresDatabase, way: slice) -> None:
        await replica.run(queries.write, News(nodes=nodes[way]))
        await replica.append(records[way])

    holding, looking = [await asyncpg.connect(dsn(postgres.url)) for _ in range(2)]
    middle = holding.transaction()
    await middle.start()
    await holding.execute(held)
    writing = asyncio.gather(write(postgres, slice(None)), write(other, slice(None, None, -1)))
    while await looking.fetchval(WAITING) < 2:
        pass
    await middle.rollback()
    await writing
    assert await postgres.run(queries.last_request) == 80
    for opened in (holding, looking, other):
        await opened.close()


async def test_no_such_database(cluster: "Cluster") -> None:
    """The start ends with what is wrong, and where."""
    database = PostgresDatabase(cluster.url("nowhere").replace("@", ":secret@"), "r1")
    with pytest.raises(ConfigError, match=r":\*\*\*@127.*cannot be opened: database .nowhere. does not exist"):
        await database.open()
    await database.close()


async def test_a_database_that_cannot_hold_every_text(cluster: "Cluster") -> None:
    """Otherwise requests would be lost, one batch a week."""
    cluster.sql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    database = PostgresDatabase(cluster.url("latin"), "r1")
    with pytest.raises(ConfigError, match="its encoding is LATIN1"):
        await database.open()
    await database.close()


async def test_a_newer_database_is_left_alone(postgres: PostgresDatabase) -> None:
    """After a downgrade the router says what is wrong."""
    await postgres.run(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(ConfigError, match=r"cannot be brought up to date.*9999"):
        await postgres.open()


async def test_a_server_that_says_that_it_ends_is_worth_another_try(postgres_place: str) -> None:
    """Requirement F4: between that word and the end of its connections, too."""
    async with ending_server(postgres_place) as server:
        postgres = PostgresDatabase(server.url, "r1")
        for write in (partial(postgres.append, [record()]), partial(postgres.run, queries.write, HAPPENED)):
            await write()
            server.says_that_it_ends()
            await asyncio.sleep(0.05)  # noqa: TID251 - nobody tells that asyncpg has read it; too early shows nothing
            with pytest.raises(NotNow):
                await write()
            await write()
        assert await postgres.run(queries.last_request) == await postgres.run(events) == 2
        await postgres.close()
