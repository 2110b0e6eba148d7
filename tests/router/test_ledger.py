"""What is to be remembered is, and the database's troubles stay the ledger's own (requirements F4 and I2)."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from llm_router.contract import Address
from llm_router.core.health import State
from llm_router.core.node import Node as RegistryNode
from llm_router.core.registry import Change, Registry
from llm_router.core.usage import RequestRecord
from llm_router.router import ledger as ledgers
from llm_router.router.credentials import Credentials
from llm_router.router.ledger import BATCH, PENDING_LIMIT, Ledger, Watcher
from llm_router.router.rows import snapshot
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.postgres import PostgresDatabase
from llm_router.router.store.queries import StoredNode
from llm_router.router.store.schema import CHANNEL
from llm_router.router.store.sqlite import SqliteDatabase
from llm_router.router.store.urls import dsn


def request(number: int, tokens: int = 0) -> RequestRecord:
    return RequestRecord(
        id=f"r{number}",
        at=1.0,
        client="c",
        operation="openai.chat",
        model="m",
        node_id="n",
        node="n",
        status=200,
        outcome="done",
        streamed=False,
        attempts=1,
        first_byte=0.1,
        seconds=0.2,
        prompt_tokens=tokens,
        completion_tokens=0,
        error="",
    )


def no_node(_node_id: str) -> StoredNode | None:
    return None


async def ids(database: Database) -> list[str]:
    return [r.id for r in await database.run(queries.latest_requests, 2 * PENDING_LIMIT)][::-1]


async def test_what_is_taken_is_written_in_order(database: Database) -> None:
    """And a clean stop loses nothing."""
    ledger = Ledger(database, no_node)
    ledger.start()
    for number in range(3):
        ledger.request(request(number))
    await ledger.stop()
    assert await ids(database) == ["r0", "r1", "r2"]


async def test_a_full_batch_does_not_wait(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many requests are written before the second is over."""
    monkeypatch.setattr(ledgers, "FLUSH_EVERY", 3600.0)
    ledger = Ledger(database, no_node)
    ledger.start()
    for number in range(BATCH + 1):
        ledger.request(request(number))
    while not await ids(database):  # each round waits for the database
        pass
    await ledger.stop()
    assert len(await ids(database)) == BATCH + 1


async def test_an_event_is_kept_with_its_time_and_its_node(database: Database) -> None:
    """Requirement F4; and the node's row is as the node is when it is written."""
    registry = Registry()
    ledger = Ledger(database, lambda node_id: snapshot(registry, Credentials(), node_id))
    box = RegistryNode("n", "box", "agent", Address("h", 1), dialects=frozenset())
    for change in registry.add(box, time.monotonic()):
        ledger.change(change)
    registry.list_models("n", ("m",), time.monotonic())
    await ledger.flush()
    (event,) = await database.run(queries.latest_events, 9)
    assert (event.event, event.node_id, event.name) == ("node.added", "n", "box")
    assert abs(event.at - time.time()) < 60
    (row,) = await database.run(queries.load_nodes)
    assert (row.state, row.models) == (State.ONLINE, ["m"])
    assert abs(row.last_seen - time.time()) < 60
    registry.remove("n")
    ledger.change(Change("node.removed", "n", "box"))
    await ledger.flush()
    assert await database.run(queries.load_nodes) == []


async def break_table(database: Database) -> None:
    await database.run(lambda connection: sql(connection, "ALTER TABLE requests RENAME TO elsewhere"))


async def mend_table(database: Database) -> None:
    await database.run(lambda connection: sql(connection, "ALTER TABLE elsewhere RENAME TO requests"))


def sql(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


async def test_what_cannot_be_written_now_is_written_later(database: Database) -> None:
    """Nothing is lost, nothing twice, the order stays, and the log hears of it once."""
    ledger = Ledger(database, no_node)
    await break_table(database)
    with capture_logs() as logged:
        for number in range(3):
            ledger.request(request(number))
            ledger.change(Change("node.online", "n", "n", str(number)))
            await ledger.flush()
    assert [line["event"] for line in logged] == ["ledger.delayed"]
    await mend_table(database)
    ledger.request(request(3))
    await ledger.flush()
    assert await ids(database) == ["r0", "r1", "r2", "r3"]
    events = await database.run(queries.latest_events, 9)
    assert [e.detail for e in events if e.event == "node.online"] == ["2", "1", "0"]
    assert [e.event for e in events if e.event != "node.online"] == ["ledger.delayed"]


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Somebody else writes into the database meanwhile."""
    other = sqlite3.connect(place, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


async def test_a_database_that_others_keep_locked_delays_and_loses_nothing(tmp_path: Path, database: Database) -> None:
    """Requirement F4: longer than a batch waits for it, and whatever came meanwhile."""
    impatient = SqliteDatabase(database.url, patience=0.01)
    ledger = Ledger(impatient, no_node)
    with locked(tmp_path / "router.db"), capture_logs() as logged:
        for number in range(3):
            ledger.request(request(number))
            await ledger.flush()
    assert [(line["event"], line["error"]) for line in logged] == [("ledger.delayed", "database is locked")]
    await ledger.flush()
    assert await ids(database) == ["r0", "r1", "r2"]
    assert ledger.dropped == 0
    await impatient.close()


def writers(place: Path) -> list[psutil.Process]:
    """The processes of ours that write into that file."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if str(place) in child.cmdline():
                found.append(child)
    return found


async def test_a_writer_that_is_killed_takes_nothing_along(tmp_path: Path, database: Database) -> None:
    """Requirement F4: what it had not written is kept, in its order, and another one writes it."""
    place = tmp_path / "router.db"
    patient = SqliteDatabase(database.url, patience=60)
    ledger = Ledger(patient, no_node)
    with locked(place), capture_logs() as logged:
        for number in range(BATCH + 1):
            ledger.request(request(number))
        flushing = asyncio.create_task(ledger.flush())
        while not (running := writers(place)):  # noqa: ASYNC110 - as below
            await asyncio.sleep(0)  # noqa: TID251 - no event tells that a process runs
        running[0].kill()
        await flushing
    assert [line["event"] for line in logged] == ["ledger.delayed"]
    ledger.request(request(BATCH + 1))
    await ledger.flush()
    assert await ids(database) == [f"r{number}" for number in range(BATCH + 2)]
    await patient.close()


async def test_a_flush_whose_caller_has_gone_goes_on(database: Database) -> None:
    """A client that asked for the history and went away takes nothing out of it."""
    ledger = Ledger(database, no_node)
    ledger.request(request(1))
    asked = asyncio.create_task(ledger.flush())
    await asyncio.sleep(0)  # noqa: TID251 - its turn: it hands the batch over
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    ledger.request(request(2))
    await ledger.flush()
    assert await ids(database) == ["r1", "r2"]


async def test_a_router_at_rest_starts_no_process(tmp_path: Path, database: Database) -> None:
    """Nodes and events are few, and written without it."""
    ledger = Ledger(database, no_node)
    ledger.change(Change("node.online", "n", "n"))
    await ledger.flush()
    assert writers(tmp_path / "router.db") == []
    ledger.request(request(1))
    await ledger.flush()
    assert len(writers(tmp_path / "router.db")) == 1


async def test_pending_entries_are_bounded(database: Database) -> None:
    """Requirement I2: a router without its database for days counts what it cannot keep."""
    ledger = Ledger(database, no_node)
    for number in range(PENDING_LIMIT + 7):
        ledger.request(request(number))
    assert ledger.dropped == 7
    await ledger.flush()
    assert len(await ids(database)) == PENDING_LIMIT


async def test_one_impossible_entry_does_not_block_the_rest(database: Database) -> None:
    """A number that no database holds is dropped with its batch; the next batch is written."""
    ledger = Ledger(database, no_node)
    ledger.request(request(1, tokens=2**70))
    with capture_logs() as logged:
        await ledger.flush()
    assert [(line["event"], line["dropped"]) for line in logged] == [("ledger.batch_lost", 1)]
    ledger.request(request(2))
    await ledger.flush()
    assert await ids(database) == ["r2"]


async def test_an_impossible_entry_takes_at_most_its_batch_along(database: Database) -> None:
    """A backlog of many batches is written without that one."""
    ledger = Ledger(database, no_node)
    for number in range(3 * BATCH):
        ledger.request(request(number, tokens=2**70 if number == BATCH else 0))
    with capture_logs():
        await ledger.flush()
    assert ledger.dropped == BATCH
    assert await ids(database) == [f"r{number}" for number in range(3 * BATCH) if number // BATCH != 1]


async def test_a_database_in_trouble_is_tried_at_its_pace(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requirement I2: no request has a backlog packed and refused once more; another try comes with the next second."""
    monkeypatch.setattr(ledgers, "FLUSH_EVERY", 3600.0)
    tries: list[str] = []
    impatient = SqliteDatabase(database.url, patience=0)
    ledger = Ledger(impatient, tries.append)
    failed = asyncio.Event()
    ledger.tell = lambda _event: failed.set()
    ledger.touch("n")
    with locked(tmp_path / "router.db"):
        ledger.start()
        for number in range(BATCH + 1):
            ledger.request(request(number))
        await failed.wait()
        for number in range(BATCH + 1, BATCH + 10):
            ledger.request(request(number))
            await asyncio.sleep(0)  # noqa: TID251 - the ledger's turn
        assert tries == ["n"]
    await ledger.stop()
    assert await ids(database) == [f"r{number}" for number in range(BATCH + 10)]
    await impatient.close()


async def test_a_backlog_that_grows_while_it_is_written_does_not_wait(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that came meanwhile are written at once, not when the second is over."""
    monkeypatch.setattr(ledgers, "FLUSH_EVERY", 3600.0)
    under_way = asyncio.Event()
    ledger = Ledger(database, lambda _node_id: under_way.set())
    ledger.touch("n")
    for number in range(2 * BATCH + 1):
        ledger.request(request(number))
    ledger.start()
    await under_way.wait()
    for number in range(2 * BATCH + 1, 5 * BATCH):
        ledger.request(request(number))
    while len(await ids(database)) < 5 * BATCH:
        pass
    await ledger.stop()
    assert await ids(database) == [f"r{number}" for number in range(5 * BATCH)]


async def test_two_flushes_at_once_write_once(database: Database) -> None:
    """The API flushes so that its answer is complete, while the ledger does so by itself."""
    ledger = Ledger(database, no_node)
    ledger.request(request(1))
    await asyncio.gather(ledger.flush(), ledger.flush())
    assert await ids(database) == ["r1"]


async def test_who_watches_is_shown_each_request_once(database: Database) -> None:
    """In their order, sooner than they are written or with it, and whatever the database does meanwhile."""
    ledger = Ledger(database, no_node)
    ledger.request(request(0))  # before anybody watched
    seen: list[str] = []
    watcher = seen_by(seen)
    ledger.watch(watcher)
    for number in (1, 2):
        ledger.request(request(number))
    ledger.show()
    assert seen == ["r1", "r2"]
    ledger.request(request(3))
    await break_table(database)
    await ledger.flush()  # in vain
    ledger.request(request(4))
    await mend_table(database)
    await ledger.flush()
    ledger.show()
    assert seen == ["r1", "r2", "r3", "r4"]
    assert await ids(database) == ["r0", "r1", "r2", "r3", "r4"]
    ledger.unwatch(watcher)
    ledger.request(request(5))
    ledger.show()
    assert seen[-1] == "r4"


async def test_batches_are_shown_as_a_whole(database: Database) -> None:
    """However many transactions it takes to write them."""
    ledger = Ledger(database, no_node)
    seen: list[str] = []
    ledger.watch(seen_by(seen))
    for number in range(2 * BATCH + 1):
        ledger.request(request(number))
    await ledger.flush()
    ledger.show()
    assert seen == [f"r{number}" for number in range(2 * BATCH + 1)]


def seen_by(seen: list[str]) -> Watcher:
    return lambda records: seen.extend(record.id for record in records)


# -- rows that other replicas read


def two_nodes() -> Registry:
    registry = Registry()
    for node_id in ("n1", "n2"):
        registry.add(RegistryNode(node_id, node_id, "agent", Address("h", 1), dialects=frozenset()), 0.0)
    return registry


async def test_what_is_still_to_be_written_is_known(database: Database) -> None:
    """Until it is written, however often that fails; a heartbeat is no change that a row could take back."""
    registry = two_nodes()
    seen: list[bool] = []

    def taken(node_id: str) -> StoredNode | None:
        return snapshot(registry, Credentials(), node_id)

    ledger = Ledger(database, taken)
    ledger.seen("n2")
    ledger.change(Change("node.changed", "n1", "n1"))
    await database.run(lambda connection: sql(connection, "ALTER TABLE nodes RENAME TO others"))
    with capture_logs():
        flushing = asyncio.create_task(ledger.flush())
        while not flushing.done():
            seen.append(ledger.unwritten("n1"))
            await asyncio.sleep(0)  # noqa: TID251 - the ledger's turn
    assert all(seen)
    assert ledger.unwritten("n1")
    await database.run(lambda connection: sql(connection, "ALTER TABLE others RENAME TO nodes"))
    await ledger.flush()
    assert not ledger.unwritten("n1")
    assert not ledger.unwritten("n2")


async def test_who_reads_waits_for_what_is_being_written(database: Database) -> None:
    """And what comes meanwhile for it."""
    ledger = Ledger(database, no_node)
    ledger.request(request(1))
    async with ledger.settled():
        flushing = asyncio.create_task(ledger.flush())
        assert await ids(database) == []
        assert not flushing.done()
    await flushing
    assert await ids(database) == ["r1"]


async def test_a_row_that_others_read_is_written_at_once_and_told_of(
    postgres_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same transaction: who hears of it finds it. What a node reports by itself can wait, and is not told."""
    monkeypatch.setattr(ledgers, "FLUSH_EVERY", 3600.0)
    registry = two_nodes()
    shared = PostgresDatabase(postgres_place, "r1")
    ledger = Ledger(shared, lambda node_id: snapshot(registry, Credentials(), node_id))
    ledger.letters = lambda nodes: [f"rows {','.join(nodes)}"]
    heard: asyncio.Queue[object] = asyncio.Queue()
    listener = await asyncpg.connect(dsn(postgres_place))
    await listener.add_listener(CHANNEL, lambda *told: heard.put_nowait(told[-1]))
    ledger.start()
    ledger.seen("n2")
    ledger.touch("n1")
    assert await heard.get() == "rows n1"
    assert await listener.fetchval("SELECT count(*) FROM nodes WHERE id = 'n1'") == 1
    await listener.close()
    await ledger.stop()
    await shared.close()
