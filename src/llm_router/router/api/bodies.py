"""`GET /v0/requests/{id}/body`: what was asked and answered, where that is kept."""

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from llm_router.errors import NotFound
from llm_router.router.bodies import BodyLog
from llm_router.router.store.bodies import Body, latest_body
from llm_router.router.store.database import Database


def body_routes(database: Database, bodies: BodyLog | None) -> list[HTTPRouteHandler]:
    """The handler. `bodies`: where they wait; None: none are kept now, though earlier ones may be there."""

    @get("/v0/requests/{request_id:str}/body")
    async def show_body(request_id: FromPath[str]) -> Body:
        """Prompt and answer of the newest request with this id, as they were sent, the first 64 kB of each."""
        if bodies is not None:
            await bodies.flush()  # so that what is complete is in the answer
        body = await database.run(latest_body, request_id)
        if body is None:
            raise NotFound(f"nothing is kept of what request {request_id} said; --log-bodies has it kept")
        return body

    return [show_body]
