"""`POST /v0/routing/explain`: what would happen to a request now, and why."""

from collections.abc import Callable

from litestar import Request, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler

from llm_router.contract import Explanation


def routing_routes(explain: Callable[[bytes], Explanation]) -> list[HTTPRouteHandler]:
    """The handler. `explain` decides on a request's body and changes nothing; it raises BadRequest for what is none."""

    # The gateway has kept the body within the limit of inference requests, which is far over Litestar's own.
    @post("/v0/routing/explain", status_code=200, request_max_body_size=None)
    async def explain_routing(request: Request[None, None, State]) -> Explanation:
        """The decision on a request with this body, of any of the inference APIs; `model` is all that it needs."""
        return explain(await request.body())

    return [explain_routing]
