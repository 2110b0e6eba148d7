"""A node and its row in the database, both ways."""

from llm_router.contract import parse_address
from llm_router.core.health import State
from llm_router.core.node import DIALECTS, Node
from llm_router.core.registry import Registry
from llm_router.router.clock import epoch
from llm_router.router.credentials import Credentials
from llm_router.router.store.queries import StoredNode


def snapshot(registry: Registry, credentials: Credentials, node_id: str) -> StoredNode | None:
    """A node as the database shall keep it; None: there is no such node any more."""
    node = registry.nodes.get(node_id)
    if node is None:
        return None
    credential = credentials.of(node_id)
    return StoredNode(
        id=node.id,
        name=node.own_name,
        kind=node.kind,
        url=node.address.url if node.address else "",
        runtimes=list(node.runtimes),
        slots=node.slots,
        os=node.os,
        local=node.local,
        state=node.state,
        models=list(node.models),
        last_seen=epoch(node.last_seen),
        secret_hash=credential.hash,
        secret_proven=credential.proven,
        backend=node.backend,
        settings=node.settings,
        access=node.token,
        version=node.version,
        models_version=node.models_version,
        registered=node.registered,
    )


def restored(row: StoredNode) -> Node:
    """The node of an earlier run, with the models and settings it had: offline until somebody has seen it, or pending.

    Raises:
        BadRequest: the row's URL is none.
    """
    node = Node(
        row.id,
        row.name,
        row.kind,
        parse_address(row.url),
        dialects=DIALECTS[row.kind],
        runtimes=row.runtimes,
        slots=row.slots,
        os=row.os,
        local=row.local,
        state=State.PENDING if row.state is State.PENDING else State.OFFLINE,
        models=row.models,
    )
    node.backend = row.backend
    node.configure(row.settings)
    node.let_in_by(row.access)
    node.version = row.version
    node.models_version = row.models_version
    node.registered = row.registered
    return node
