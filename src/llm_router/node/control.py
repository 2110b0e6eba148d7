"""The agent's control app: what it answers besides inference."""

from collections.abc import Callable, Sequence

import msgspec
from litestar import Litestar, get
from litestar.handlers import HTTPRouteHandler

from llm_router import __version__
from llm_router.contract import ModelEntry
from llm_router.core.registry import Registry
from llm_router.gateway.control_app import control_app
from llm_router.gateway.lists import list_routes


class Health(msgspec.Struct, frozen=True):
    """The answer of `GET /health`: `models` counts those that can be asked for now."""

    models: int
    in_flight: int
    status: str = "ok"
    version: str = __version__


def node_control(
    registry: Registry, describe: Callable[[str], ModelEntry], routes: Sequence[HTTPRouteHandler]
) -> Litestar:
    """The app; `describe` is asked at each request. `routes`: what is done to models, and with their files."""

    @get("/health", sync_to_thread=False)
    def health() -> Health:
        return Health(len(registry.available()), sum(upstream.in_flight for upstream in registry))

    return control_app([*list_routes(registry, describe), *routes, health])
