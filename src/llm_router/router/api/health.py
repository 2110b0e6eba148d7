"""`GET /health`: for load balancers and service managers. Anybody may ask, so it names nobody and nothing."""

from typing import Literal

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler

from llm_router import __version__
from llm_router.core.health import State
from llm_router.core.registry import Registry
from llm_router.router.ledger import Ledger


class LedgerHealth(msgspec.Struct, frozen=True):
    """Requests and events on their way into the database: `pending` wait, `lost` will never be there.

    `trouble` says why the database does not take them now, and is empty while it does.
    """

    pending: int
    lost: int
    trouble: str


class Health(msgspec.Struct, frozen=True):
    """`nodes` are known, `online` of them are in rotation. degraded: requests are answered, but not all is kept."""

    status: Literal["ok", "degraded"]
    version: str
    nodes: int
    online: int
    ledger: LedgerHealth


def health_routes(registry: Registry, ledger: Ledger) -> list[HTTPRouteHandler]:
    """The handler: the process answers, so it is 200, with nodes or without, and whatever its database does."""

    @get("/health")
    async def health() -> Health:
        """That the router is up, how many nodes it has, and whether its history is written."""
        online = sum(node.state is State.ONLINE for node in registry)
        written = LedgerHealth(ledger.pending, ledger.dropped, ledger.trouble)
        status: Literal["ok", "degraded"] = "degraded" if written.trouble else "ok"
        return Health(status, __version__, len(registry.nodes), online, written)

    return [health]
