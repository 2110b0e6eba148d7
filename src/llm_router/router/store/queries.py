"""Every statement the router sends: functions of a connection, run by `Database.run` off the event loop.

Requests are appended thousands of times a second, by a process of its own (`writer`): `appending` is what it runs.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, delete, insert, select

from llm_router.contract import Backend, NodeKind, NodeSettings, RuntimeFacts
from llm_router.core.health import State
from llm_router.core.usage import RequestRecord
from llm_router.router.store import schema
from llm_router.router.store.writer import Statement

Row = TypeVar("Row", bound=msgspec.Struct)


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a node, as it is kept: `at` in seconds since the epoch."""

    at: float
    event: str
    node_id: str
    name: str
    detail: str


class StoredNode(msgspec.Struct, frozen=True):
    """What a restart needs to know of a node. `name` is its own; the one it is shown as may stand in `settings`.

    `secret_hash` is empty for attached servers. `secret_proven`: the node has shown its secret at least once.
    """

    id: str
    name: str
    kind: NodeKind
    url: str
    runtimes: list[RuntimeFacts]
    slots: int
    os: str
    local: bool
    state: State
    models: list[str]
    last_seen: float
    secret_hash: str = ""
    secret_proven: bool = False
    backend: Backend = "cpu"
    settings: NodeSettings = NodeSettings()


class News(msgspec.Struct):
    """What is written in one transaction. `nodes` replace their rows; `removed` are ids."""

    events: list[Event] = []
    nodes: list[StoredNode] = []
    removed: list[str] = []


def write(connection: Connection, news: News) -> None:
    """Append the events, and bring the nodes' rows up to date."""
    stale = [*news.removed, *(node.id for node in news.nodes)]
    if stale:
        connection.execute(delete(schema.nodes).where(schema.nodes.c.id.in_(stale)))
    if news.nodes:
        connection.execute(insert(schema.nodes), _node_columns(news.nodes))
    if news.events:
        connection.execute(insert(schema.events), _columns(news.events))


# Text, because the process that writes requests carries no SQLAlchemy. Rounded to µs, as people want to read them; not
# in the router, where a request would pay for it.
_ROUNDED = frozenset({"first_byte", "seconds", "waited"})
_FIELDS = RequestRecord.__struct_fields__
_APPEND_REQUESTS = f"""
INSERT INTO requests ({", ".join(_FIELDS)})
VALUES ({", ".join("round(?, 6)" if field in _ROUNDED else "?" for field in _FIELDS)})
"""  # noqa: S608 - names of ours

# Of the last ? requests.
_INDEX_BLOCKS = f"""
INSERT INTO request_blocks (about, value, block)
WITH fresh AS (
    SELECT DISTINCT model, node_id, node, seq / {schema.BLOCK} AS block
    FROM requests WHERE seq > (SELECT max(seq) FROM requests) - ?
)
SELECT 'model', model, block FROM fresh
UNION ALL SELECT 'node', node_id, block FROM fresh
UNION ALL SELECT 'node', node, block FROM fresh WHERE true
ON CONFLICT DO NOTHING
"""  # noqa: S608 - BLOCK is a number of ours. `WHERE true`: SQLite would take ON for that of a join

# Rows per statement on its way to the process that writes: 40 µs of the event loop, which goes on between two of them.
_ROWS = 128


def appending(requests: Sequence[RequestRecord]) -> Iterator[Statement]:
    """The statements that append `requests`, for SQLite; to be run in one transaction."""
    for start in range(0, len(requests), _ROWS):
        yield _APPEND_REQUESTS, [msgspec.structs.astuple(record) for record in requests[start : start + _ROWS]]
    yield _INDEX_BLOCKS, [(len(requests),)]


def load_nodes(connection: Connection) -> list[StoredNode]:
    """Every node, in the order of their ids."""
    return _read(connection, select(schema.nodes).order_by(schema.nodes.c.id), StoredNode)


def latest_requests(connection: Connection, limit: int, model: str = "", node: str = "") -> list[RequestRecord]:
    """The newest `limit` requests, newest first; `model` and `node` (an id or a name) narrow them down where given."""
    table = schema.requests.c
    found = select(schema.requests)
    if model:
        found = found.where(table.model == model)
    if node:
        found = found.where((table.node_id == node) | (table.node == node))
    found = _in_blocks(found, {"model": model, "node": node}).order_by(table.seq.desc()).limit(limit)
    return _read(connection, found, RequestRecord)


def _in_blocks(found: Select[Any], values: dict[str, str]) -> Select[Any]:
    """Look only into the blocks in which each value that is given occurs, the newest first."""
    known = None
    for about, value in values.items():
        if value:
            blocks = schema.request_blocks.alias(about)
            block = blocks.c.block
            found = found.join(blocks, _is_in(block) if known is None else block == known)
            # Ordered by blocks before anything else, the database need not sort what it finds: it stops at the limit.
            found = found.where(blocks.c.about == about, blocks.c.value == value).order_by(block.desc())
            known = block
    return found


def _is_in(block: ColumnElement[int]) -> ColumnElement[bool]:
    first = block * schema.BLOCK
    return schema.requests.c.seq.between(first, first + (schema.BLOCK - 1))


def latest_events(connection: Connection, limit: int) -> list[Event]:
    """The newest `limit` events, newest first."""
    return _read(connection, select(schema.events).order_by(schema.events.c.seq.desc()).limit(limit), Event)


def _read(connection: Connection, query: Select[Any], kind: type[Row]) -> list[Row]:
    rows = connection.execute(query).mappings()
    # SQLAlchemy's column names are a kind of str of its own, which msgspec does not take for one.
    return [msgspec.convert({str(name): value for name, value in row.items()}, kind) for row in rows]


def _columns(structs: Iterable[msgspec.Struct]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(s) for s in structs]


def _node_columns(nodes: Iterable[StoredNode]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(node) | {"state": node.state.value} for node in nodes]
