"""Every statement the router sends. Functions of a connection, run by `Database.run` off the event loop."""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Select, delete, insert, select

from llm_router.contract import NodeKind, RuntimeFacts
from llm_router.core.health import State
from llm_router.core.usage import RequestRecord
from llm_router.router.store import schema

Row = TypeVar("Row", bound=msgspec.Struct)


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a node, as it is kept: `at` in seconds since the epoch."""

    at: float
    event: str
    node_id: str
    name: str
    detail: str


class StoredNode(msgspec.Struct, frozen=True):
    """What a restart needs to know of a node.

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


class Batch(msgspec.Struct):
    """What is written in one transaction. `nodes` replace their rows; `removed` are ids."""

    requests: list[RequestRecord] = []
    events: list[Event] = []
    nodes: list[StoredNode] = []
    removed: list[str] = []


def write(connection: Connection, batch: Batch) -> None:
    """Append the batch's requests and events, and bring its nodes' rows up to date."""
    stale = [*batch.removed, *(node.id for node in batch.nodes)]
    if stale:
        connection.execute(delete(schema.nodes).where(schema.nodes.c.id.in_(stale)))
    if batch.nodes:
        connection.execute(insert(schema.nodes), _node_columns(batch.nodes))
    if batch.events:
        connection.execute(insert(schema.events), _columns(batch.events))
    if batch.requests:
        connection.execute(insert(schema.requests), _columns(batch.requests))


def load_nodes(connection: Connection) -> list[StoredNode]:
    """Every node, in the order of their ids."""
    return _read(connection, select(schema.nodes).order_by(schema.nodes.c.id), StoredNode)


def latest_requests(connection: Connection, limit: int, model: str = "", node: str = "") -> list[RequestRecord]:
    """The newest `limit` requests, newest first; `model` and `node` (an id or a name) narrow them down where given."""
    table = schema.requests.c
    found = select(schema.requests).order_by(table.seq.desc()).limit(limit)
    if model:
        found = found.where(table.model == model)
    if node:
        found = found.where((table.node_id == node) | (table.node == node))
    return _read(connection, found, RequestRecord)


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
