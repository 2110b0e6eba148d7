"""What others have written is read again, whatever happens to the database meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection

import pytest
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from llm_router.core.health import State
from llm_router.errors import Unavailable
from llm_router.router.following import tables as module
from llm_router.router.following.tables import Tables
from llm_router.router.ledger import Ledger
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import News, StoredNode


class Reader:
    """`Tables` on a database with two nodes, and what was read."""

    def __init__(self, database: Database) -> None:
        self.ledger = Ledger(database, lambda _node_id: None)
        self.read: list[tuple[list[str], Collection[str]]] = []
        self.others: list[str] = []
        self.fails = 0  # so many readings of keys from now on
        others = {"keys": self._keys, "token": self._token}
        self.tables = Tables(database, self.ledger, self._apply, lambda: ["a", "gone"], others)
        self._changed = asyncio.Event()

    def _apply(self, rows: list[StoredNode], ids: Collection[str]) -> None:
        self.read.append(([row.id for row in rows], ids))
        self._changed.set()

    async def _keys(self) -> None:
        if self.fails:
            self.fails -= 1
            raise Unavailable("the database cannot be written")
        self.others.append("keys")
        self._changed.set()

    async def _token(self) -> None:
        self.others.append("token")
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


def stored(node_id: str) -> StoredNode:
    return StoredNode(node_id, node_id, "agent", "http://h:1", [], 1, "", False, State.ONLINE, [], 0.0)  # noqa: FBT003


@pytest.fixture
async def reader(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reader]:
    monkeypatch.setattr(module, "REST", 0.01)
    await database.run(queries.write, News(nodes=[stored("a"), stored("b")]))
    made = Reader(database)
    made.tables.start()
    yield made
    await made.tables.stop()


async def test_what_is_named_often_is_read_once(reader: Reader) -> None:
    """However many messages name it; and nothing else is."""
    for _ in range(3):
        reader.tables.nodes(["a"])
        reader.tables.nodes(["b", "gone"])
    await reader.until(lambda: bool(reader.read))
    reader.tables.other("token")
    await reader.until(lambda: bool(reader.others))
    assert reader.read == [(["a", "b"], {"a", "b", "gone"})]
    assert reader.others == ["token"]


async def test_everything_is_everything(reader: Reader) -> None:
    """All nodes, and what else there is: after a connection was lost, anything may have happened."""
    reader.tables.nodes(["a"])
    reader.tables.everything()
    await reader.until(lambda: reader.others == ["keys", "token"])
    assert reader.read == [(["a", "b"], {"a", "b", "gone"})]


async def test_a_large_fleet_is_read_in_pages(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for thousands of rows."""
    monkeypatch.setattr(module, "PAGE", 2)
    reader.tables.everything()
    await reader.until(lambda: reader.others == ["keys", "token"])
    assert [len(ids) for _, ids in reader.read] == [2, 1]
    assert sorted(row for rows, _ in reader.read for row in rows) == ["a", "b"]


async def test_what_nobody_told_is_read_all_the_same(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages may be lost."""
    monkeypatch.setattr(module, "EVERY", 0.01)
    reader.tables.other("token")  # it goes on from here with the shorter pause
    await reader.until(lambda: len(reader.read) > 1)


def rename(connection: Connection, before: str, after: str) -> None:
    connection.execute(text(f"ALTER TABLE {before} RENAME TO {after}"))


async def test_what_cannot_be_read_now_is_read_later(reader: Reader, database: Database) -> None:
    """All of it, since nobody knows what was missed."""
    await database.run(rename, "nodes", "elsewhere")
    with capture_logs() as logged:
        reader.tables.nodes(["a"])
        while not logged:  # noqa: ASYNC110 - there is no event for a log line
            await asyncio.sleep(0.01)  # noqa: TID251 - as above
    assert logged[0]["event"] == "replicas.not_read"
    await database.run(rename, "elsewhere", "nodes")
    await reader.until(lambda: reader.others == ["keys", "token"])
    assert reader.read == [(["a", "b"], {"a", "b", "gone"})]


async def test_what_has_to_be_written_first_and_cannot_is_tried_again(reader: Reader) -> None:
    """Keys that were revoked while the database was away are removed before keys are read: then all is."""
    reader.fails = 2
    reader.tables.other("keys")
    await reader.until(lambda: reader.others == ["keys", "token"])


async def test_what_nobody_understands_keeps_nothing_else_from_being_read(reader: Reader, database: Database) -> None:
    """A row of a newer version, in the middle of an upgrade."""
    await database.run(write, "UPDATE nodes SET state = 'of a newer version' WHERE id = 'a'")
    with capture_logs() as logged:
        reader.tables.everything()
        await reader.until(lambda: reader.others == ["keys", "token"])
    assert [entry["event"] for entry in logged] == ["replicas.not_understood"]
    reader.tables.nodes(["b"])
    await reader.until(lambda: reader.read == [(["b"], {"b"})])


def write(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


async def test_what_is_read_is_what_was_written_last(database: Database) -> None:
    """A row is not read while this replica writes it: what it has to write is written, or known to be."""
    reader = Reader(database)
    async with reader.ledger.settled():
        reader.tables.start()
        reader.tables.nodes(["a"])
        await database.run(queries.load_nodes)
        assert reader.read == []
    await reader.until(lambda: bool(reader.read))
    await reader.tables.stop()
