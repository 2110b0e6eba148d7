"""`GET /health`: for load balancers and service managers."""

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler

from llm_router import __version__
from llm_router.core.health import State
from llm_router.core.registry import Registry


class Health(msgspec.Struct, frozen=True):
    """`nodes` are known, `online` of them are in rotation."""

    status: str
    version: str
    nodes: int
    online: int


def health_routes(registry: Registry) -> list[HTTPRouteHandler]:
    """The handler: the process answers, so its status is ok, with nodes or without."""

    @get("/health")
    async def health() -> Health:
        """That the router is up, and how many nodes it has."""
        online = sum(node.state is State.ONLINE for node in registry)
        return Health("ok", __version__, len(registry.nodes), online)

    return [health]
