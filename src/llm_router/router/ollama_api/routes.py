"""Ollama's model endpoints, as the router answers them. `?node=` names the one that they are for, by id or name."""

from litestar.handlers import HTTPRouteHandler

from llm_router.gateway.control_app import AnyRequest
from llm_router.models.ollama.routes import model_routes
from llm_router.router.ollama_api.actions import Nodes, RouterActions


def router_ollama_routes(nodes: Nodes) -> list[HTTPRouteHandler]:
    """The handlers."""

    def actions(request: AnyRequest) -> RouterActions:
        client = request.client.host if request.client else ""
        return RouterActions(nodes, request.query_params.get("node", ""), client)

    return model_routes(actions)
