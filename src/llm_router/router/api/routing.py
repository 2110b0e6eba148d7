"""`POST /v0/routing/explain`: what would happen to a request now, and why."""

import time

from litestar import Request, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler

from llm_router.contract import Explanation
from llm_router.core.ask import Ask
from llm_router.core.catalog import resolve
from llm_router.core.explain import explain
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Scheduler
from llm_router.errors import BadRequest, ModelNotFound
from llm_router.gateway.peek import peek
from llm_router.router.api.refusals import AnyQuestion, refusals


def routing_routes(registry: Registry, scheduler: Scheduler, policy: str) -> list[HTTPRouteHandler]:
    """The handler. `policy` is the name of the one that `scheduler` follows."""

    # The gateway has kept the body within the limit of inference requests, which is far over Litestar's own.
    @post(
        "/v0/routing/explain",
        status_code=200,
        request_max_body_size=None,
        operation_class=AnyQuestion,
        responses=refusals(BadRequest, ModelNotFound),
    )
    async def explain_routing(request: Request[None, None, State]) -> Explanation:
        """The decision on a request with this body, of any of the inference APIs; `model` is all that it needs."""
        body = await request.body()
        peeked, now = peek(body), time.monotonic()
        model = resolve(peeked.model, registry, tags=True)
        ask = Ask(model, now, size=len(body), conversation=peeked.conversation)
        return explain(registry, scheduler, policy, ask, now)

    return [explain_routing]
