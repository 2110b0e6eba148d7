"""Every statement the router sends: functions of a connection, run by `Database.run` off the event loop.

Requests are appended thousands of times a second, each database in its own way: into SQLite by a process of its own
(`writer`), which runs what `appending` says; into PostgreSQL as `postgres_requests` says.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from llm_router.contract import Backend, NodeKind, NodeSettings, RuntimeFacts
from llm_router.core.health import State
from llm_router.core.usage import RequestRecord
from llm_router.router.store import schema
from llm_router.router.store.upsert import inserting
from llm_router.router.store.writer import Statement

Row = TypeVar("Row", bound=msgspec.Struct)


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a node, as it is kept: `at` in seconds since the epoch."""

    at: float
    event: str
    node_id: str
    name: str
    detail: str


class KeptEvent(Event, frozen=True):
    """One that is on record; `seq` grows by one from each to the next."""

    seq: int = 0


class KeptRequest(RequestRecord, frozen=True, gc=False):
    """A request that is on record, as `KeptEvent`."""

    seq: int = 0


class EventFilter(msgspec.Struct, frozen=True):
    """Which events: what is empty does not matter. `event` is a name or the beginning of one that ends with a dot.

    `node` is an id or a name; `q` occurs anywhere, in whatever case.
    """

    event: str = ""
    node: str = ""
    q: str = ""


class RequestFilter(msgspec.Struct, frozen=True):
    """Which requests, as `EventFilter`. `status` from first to last; `since` and `until` in seconds since the epoch."""

    model: str = ""
    node: str = ""
    client: str = ""
    status: tuple[int, int] | None = None
    outcome: str = ""
    since: float | None = None
    until: float | None = None
    q: str = ""

    def is_indexed(self) -> bool:
        """Whether what it asks for is in `request_blocks`, or nothing is: a page is found without a search."""
        return self == RequestFilter(model=self.model, node=self.node)


ANY_EVENT = EventFilter()
ANY_REQUEST = RequestFilter()


class StoredNode(msgspec.Struct, frozen=True):
    """What a restart needs to know of a node. `name` is its own; the one it is shown as may stand in `settings`.

    `secret_hash` is empty for attached servers. `secret_proven`: the node has shown its secret at least once. `access`:
    the token that the node lets us in by; it is kept as it is, since it is to be shown there. `version`: of its agent;
    `registered`: when it did so last, in seconds since the epoch.
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
    access: str = ""
    version: str = ""
    models_version: int = 0
    registered: float = 0.0


class SeenNode(msgspec.Struct, frozen=True):
    """What changes of a node while it only sends heartbeats; the names are `StoredNode`'s."""

    id: str
    state: State
    models: list[str]
    models_version: int
    slots: int
    runtimes: list[RuntimeFacts]
    backend: Backend
    last_seen: float


class News(msgspec.Struct):
    """What is written in one transaction.

    `removed` are ids. `nodes` replace their rows, or are new. `seen` changes rows, and brings none back that somebody
    has removed. `messages` are for other replicas, who hear them when the rest is there to be read: PostgreSQL only.
    """

    events: list[Event] = []
    nodes: list[StoredNode] = []
    removed: list[str] = []
    seen: list[SeenNode] = []
    messages: list[str] = []


def write(connection: Connection, news: News) -> None:
    """Append the events, bring the nodes' rows up to date, and tell of it.

    Rows are taken in the order of their ids: of two replicas that write the same ones, neither waits for the other
    crosswise.
    """
    if news.removed:
        gone = delete(schema.nodes).where(schema.nodes.c.id == bindparam("gone"))
        connection.execute(gone, [{"gone": id_} for id_ in sorted(news.removed)])
    if news.nodes:
        connection.execute(_putting_nodes(connection), _node_columns(news.nodes))
    if news.seen:
        seen = update(schema.nodes).where(schema.nodes.c.id == bindparam("node"))
        connection.execute(seen, [_renamed(columns) for columns in _node_columns(news.seen)])
    if news.events:
        connection.execute(insert(schema.events), _columns(news.events))
    if news.messages:
        connection.execute(_NOTIFY, {"channel": schema.CHANNEL, "messages": news.messages})


_NOTIFY = text("SELECT pg_notify(:channel, message) FROM unnest(CAST(:messages AS text[])) AS message")


def _putting_nodes(connection: Connection) -> Executable:
    """Replaces rows, or adds them; of settings that two replicas have, those that were changed later stay."""
    table = schema.nodes
    putting = inserting(connection, table)
    new: dict[str, ColumnElement[Any]] = {c.name: putting.excluded[c.name] for c in table.c if c.name != "id"}
    if connection.dialect.name != "sqlite":  # there, one router knows it all
        changed, newly = (c["changed"].as_float() for c in (table.c.settings, putting.excluded.settings))
        new["settings"] = case((changed > newly, table.c.settings), else_=new["settings"])
    return putting.on_conflict_do_update(index_elements=["id"], set_=new)


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


def load_nodes(connection: Connection, ids: Collection[str] | None = None) -> list[StoredNode]:
    """Every node, or those of `ids` that are there, in the order of their ids."""
    found = select(schema.nodes).order_by(schema.nodes.c.id)
    return _read(connection, found if ids is None else found.where(schema.nodes.c.id.in_(ids)), StoredNode)


def node_ids(connection: Connection) -> list[str]:
    """The ids of all nodes."""
    return list(connection.execute(select(schema.nodes.c.id)).scalars())


class Window(msgspec.Struct, frozen=True):
    """A part of the history, by `seq`: from `low` up to, but without, `high`."""

    low: int
    high: int


def whole(connection: Connection, which: RequestFilter, before: int = 0) -> Window:
    """All requests that `which` can find, older than the one with the seq `before`; 0: all there are."""
    seq = schema.requests.c.seq
    # One by one: for both at once, SQLite would look at every row.
    first, last = (connection.execute(select(func.coalesce(end(seq), 0))).scalar_one() for end in (func.min, func.max))
    high = min(before, last + 1) if before else last + 1
    low = first if which.since is None else _first_since(connection, which.since - CLOCK_SLACK, first, last + 1)
    return Window(low, high)


# Seconds by which `at` may step back from one request to the next: a clock that is set, a record that waited.
CLOCK_SLACK = 60.0


def _first_since(connection: Connection, moment: float, low: int, high: int) -> int:
    """The first seq from `low` on at which it was this late, `high` if none: times grow with seq, so half by half."""
    table = schema.requests.c
    while low < high:
        middle = (low + high) // 2
        found = select(table.at).where(table.seq >= middle).order_by(table.seq).limit(1)
        at = connection.execute(found).scalar()
        if at is not None and at < moment:
            low = middle + 1
        else:
            high = middle
    return low


def latest_requests(
    connection: Connection, limit: int, which: RequestFilter = ANY_REQUEST, window: Window | None = None
) -> list[KeptRequest]:
    """The newest `limit` requests that `which` describes, newest first; only in `window`, where one is given."""
    table = schema.requests.c
    found = select(schema.requests).where(*_conditions(connection, which))
    if window is not None:
        found = found.where(table.seq >= window.low, table.seq < window.high)
    found = _in_blocks(found, {"model": which.model, "node": which.node}, window)
    return _read(connection, found.order_by(table.seq.desc()).limit(limit), KeptRequest)


def one_request(connection: Connection, id_: str, window: Window) -> list[KeptRequest]:
    """The newest request with this `x-request-id` in a part of the history, or none."""
    table = schema.requests.c
    there = select(schema.requests).where(table.id == id_, table.seq >= window.low, table.seq < window.high)
    return _read(connection, there.order_by(table.seq.desc()).limit(1), KeptRequest)


def last_request(connection: Connection) -> int:
    """The highest seq; 0: nothing is on record."""
    return connection.execute(select(func.max(schema.requests.c.seq))).scalar() or 0


def newer_requests(connection: Connection, after: int, replica: str, limit: int) -> list[KeptRequest]:
    """What other replicas than `replica` answered past the seq `after`: the newest `limit` of it, the oldest first.

    Numbers are given out before rows can be read. Of two batches that are written at once, the one with the lower
    numbers may appear later: who must not miss one asks from further back, and leaves out those it knows.
    """
    table = schema.requests.c
    found = select(schema.requests).where(table.seq > after, table.replica != replica)
    return _read(connection, found.order_by(table.seq.desc()).limit(limit), KeptRequest)[::-1]


def _conditions(connection: Connection, which: RequestFilter) -> Iterator[ColumnElement[bool]]:
    table = schema.requests.c
    if which.model:
        yield table.model == which.model
    if which.node:
        yield (table.node_id == which.node) | (table.node == which.node)
    if which.client:
        yield table.client == which.client
    if which.status is not None:
        yield table.status.between(*which.status)
    if which.outcome:
        yield table.outcome == which.outcome
    if which.since is not None:
        yield table.at >= which.since
    if which.until is not None:
        yield table.at < which.until
    if which.q:
        yield _contains(connection, which.q, table.model, table.node, table.client, table.error, table.id)


def _contains(connection: Connection, q: str, *columns: ColumnElement[str]) -> ColumnElement[bool]:
    """In whatever case. SQLite's LIKE minds none, and lower() would take it three times as long."""
    if connection.dialect.name == "sqlite":
        return or_(*(column.contains(q, autoescape=True) for column in columns))
    return or_(*(column.icontains(q, autoescape=True) for column in columns))


def _in_blocks(found: Select[Any], values: dict[str, str], window: Window | None) -> Select[Any]:
    """Look only into the blocks in which each value that is given occurs, the newest first."""
    known = None
    for about, value in values.items():
        if value:
            blocks = schema.request_blocks.alias(about)
            block = blocks.c.block
            found = found.join(blocks, _is_in(block) if known is None else block == known)
            # Ordered by blocks before anything else, the database need not sort what it finds: it stops at the limit.
            found = found.where(blocks.c.about == about, blocks.c.value == value).order_by(block.desc())
            if window is not None:
                found = found.where(block.between(window.low // schema.BLOCK, window.high // schema.BLOCK))
            known = block
    return found


def _is_in(block: ColumnElement[int]) -> ColumnElement[bool]:
    first = block * schema.BLOCK
    return schema.requests.c.seq.between(first, first + (schema.BLOCK - 1))


def latest_events(
    connection: Connection, limit: int, which: EventFilter = ANY_EVENT, before: int = 0
) -> list[KeptEvent]:
    """The newest `limit` events that `which` describes, newest first; older than that with the seq `before`."""
    table = schema.events.c
    found = select(schema.events).order_by(table.seq.desc()).limit(limit)
    if before:
        found = found.where(table.seq < before)
    if which.event:
        is_group = which.event.endswith(".")
        found = found.where(
            table.event.startswith(which.event, autoescape=True) if is_group else table.event == which.event
        )
    if which.node:
        found = found.where((table.node_id == which.node) | (table.name == which.node))
    if which.q:
        found = found.where(_contains(connection, which.q, table.event, table.name, table.detail, table.node_id))
    return _read(connection, found, KeptEvent)


def _read(connection: Connection, query: Select[Any], kind: type[Row]) -> list[Row]:
    rows = connection.execute(query)
    names = [str(name) for name in rows.keys()]  # noqa: SIM118 - no dict; its names are a kind of str that msgspec minds
    return [msgspec.convert(dict(zip(names, row, strict=True)), kind) for row in rows]


def _columns(structs: Iterable[msgspec.Struct]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(s) for s in structs]


def _node_columns(nodes: Iterable[StoredNode | SeenNode]) -> list[dict[str, Any]]:
    in_order = sorted(nodes, key=lambda node: node.id)
    return [msgspec.structs.asdict(node) | {"state": node.state.value} for node in in_order]


def _renamed(columns: dict[str, Any]) -> dict[str, Any]:
    """The id as a parameter by another name: that of a column is for its new value."""
    return {"node" if name == "id" else name: value for name, value in columns.items()}
