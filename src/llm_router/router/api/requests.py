"""`GET /v0/requests`: what was asked, by whom, and how it ended."""

from typing import Annotated

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter

from llm_router.core.usage import RequestRecord
from llm_router.router.ledger import Ledger
from llm_router.router.store import queries
from llm_router.router.store.database import Database

# A page for a person; at most what is read and written as JSON in 10 ms.
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]


def request_routes(database: Database, ledger: Ledger) -> list[HTTPRouteHandler]:
    """The handlers."""

    @get("/v0/requests")
    async def list_requests(
        limit: Limit = 100, model: FromQuery[str] = "", node: FromQuery[str] = ""
    ) -> list[RequestRecord]:
        """The newest requests first; `model`, and `node` by id or name, narrow them down."""
        await ledger.flush()  # so that what is complete is in the answer
        return await database.run(queries.latest_requests, limit, model, node)

    return [list_requests]
