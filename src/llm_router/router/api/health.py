"""`GET /health`: for load balancers and service managers. Anybody may ask, so it names nobody and nothing."""

from typing import Literal

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler

from llm_router import __version__
from llm_router.core.health import State
from llm_router.core.registry import Registry
from llm_router.router.ledger import Ledger
from llm_router.router.replicas.base import Replicas


class LedgerHealth(msgspec.Struct, frozen=True):
    """Requests and events on their way into the database: `pending` wait, `lost` will never be there.

    `trouble` says why the database does not take them now, and is empty while it does.
    """

    pending: int
    lost: int
    trouble: str


class Health(msgspec.Struct, frozen=True):
    """`nodes` are known, `online` of them are in rotation. degraded: requests are answered, but not all is kept.

    `replica`: the one that answers, "" where there is but one; `replicas`: those that it has heard lately; `alone`: why
    it hears none of them, empty while it would.
    """

    status: Literal["ok", "degraded"]
    version: str
    nodes: int
    online: int
    ledger: LedgerHealth
    replica: str
    replicas: list[str]
    alone: str


def health_routes(registry: Registry, ledger: Ledger, replicas: Replicas) -> list[HTTPRouteHandler]:
    """The handler: the process answers, so it is 200, with nodes or without, and whatever its database does."""

    @get("/health")
    async def health() -> Health:
        """That the router is up, how many nodes it has, and whether its history is written."""
        online = sum(node.state is State.ONLINE for node in registry)
        written = LedgerHealth(ledger.pending, ledger.dropped, ledger.trouble)
        status: Literal["ok", "degraded"] = "degraded" if written.trouble or replicas.trouble else "ok"
        return Health(
            status=status,
            version=__version__,
            nodes=len(registry.nodes),
            online=online,
            ledger=written,
            replica=replicas.name,
            replicas=sorted(replicas.others),
            alone=replicas.trouble,
        )

    return [health]
