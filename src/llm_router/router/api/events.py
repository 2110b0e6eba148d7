"""`GET /v0/events`: what happened to the nodes."""

from litestar import get
from litestar.handlers import HTTPRouteHandler

from llm_router.router.api.requests import Limit
from llm_router.router.ledger import Ledger
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import Event


def event_routes(database: Database, ledger: Ledger) -> list[HTTPRouteHandler]:
    """The handlers."""

    @get("/v0/events")
    async def list_events(limit: Limit = 100) -> list[Event]:
        """The newest events first."""
        await ledger.flush()  # so that what has happened is in the answer
        return await database.run(queries.latest_events, limit)

    return [list_events]
