"""Ollama's model endpoints, as a node answers them."""

from typing import Any

import aiohttp
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from llm_router.core.registry import Registry
from llm_router.gateway.control_app import AnyRequest
from llm_router.models.ollama.calls import Refused
from llm_router.models.ollama.routes import model_routes
from llm_router.node.ollama_api.actions import NodeActions
from llm_router.node.ollama_api.pulls import Pulls
from llm_router.node.runtimes.all import Runtimes


def node_ollama_routes(
    registry: Registry, runtimes: Runtimes, session: aiohttp.ClientSession, pulls: Pulls
) -> list[HTTPRouteHandler]:
    """The handlers. `pulls` is told of every model that an Ollama is asked to fetch."""
    actions = NodeActions(registry, runtimes, session, pulls)

    @post("/api/show", status_code=200, include_in_schema=False)
    async def show(request: AnyRequest) -> Response[Any]:
        """On a router this is a question to a node, as inference is."""
        try:
            return await actions.show(await request.body())
        except Refused as refused:
            return refused.answer()

    return [*model_routes(lambda _request: actions), show]
