"""`GET /v0/requests`: what was asked, by whom, and how it ended."""

from itertools import chain
from typing import Annotated, Literal

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from llm_router.core.usage import Outcome
from llm_router.errors import NotFound
from llm_router.gateway.control_app import AnyRequest
from llm_router.router import history
from llm_router.router.api.export import Format, download, wanted
from llm_router.router.api.refusals import also, refusals
from llm_router.router.ledger import Ledger
from llm_router.router.store.database import Database
from llm_router.router.store.queries import KeptRequest, RequestFilter

PAGE = 100  # where nobody says how many

# A page for a person; at most what is read and written as JSON in 10 ms.
Limit = Annotated[
    int | None,
    QueryParameter(ge=1, le=1000, description=f"How many at most. Of a list {PAGE} unless told, of a file all."),
]
Before = Annotated[
    int, QueryParameter(ge=0, le=2**63 - 1, description="Only what is older than the one with this `seq`; 0: all.")
]
As = Annotated[Format, QueryParameter(name="format", description="As a file: csv or json.")]
Status = Annotated[str, QueryParameter(pattern=r"^([0-9]{3}|[1-5]xx|)$", description="As in 404, or in 5xx.")]
Moment = Annotated[float | None, QueryParameter(description="In seconds since the epoch.")]


def request_routes(database: Database, ledger: Ledger) -> list[HTTPRouteHandler]:
    """The handlers."""

    @get("/v0/requests", tags=["history"], responses=also(200, list[KeptRequest], "As a list, or as a file."))
    async def list_requests(  # noqa: PLR0913 - as many as there are things to look for
        request: AnyRequest,
        *,
        limit: Limit = None,
        before: Before = 0,
        model: FromQuery[str] = "",
        node: FromQuery[str] = "",
        client: FromQuery[str] = "",
        status: Status = "",
        outcome: FromQuery[Outcome | Literal[""]] = "",
        since: Moment = None,
        until: Moment = None,
        q: FromQuery[str] = "",
        form: As = "",
    ) -> Response[list[KeptRequest]] | Stream:
        """The newest requests first. `node` is an id or a name; `q` occurs in model, node, client, error or id.

        `format=csv`, `format=json` or `Accept: text/csv`: all of them, as a file.
        """
        await ledger.flush()  # so that what is complete is in the answer
        which = RequestFilter(model, node, client, _statuses(status), outcome, since, until, q)
        form = wanted(request, form)
        if form:
            found = history.requests(database, which, limit or history.NO_LIMIT, before)
            return download("requests", form, KeptRequest, found)
        pages = [page async for page in history.requests(database, which, limit or PAGE, before)]
        return Response(list(chain(*pages)))

    @get("/v0/requests/{request_id:str}", tags=["history"], responses=refusals(NotFound))
    async def show_request(request_id: FromPath[str]) -> KeptRequest:
        """One request, by the `x-request-id` of its answer; the newest, if a client used it more than once."""
        await ledger.flush()
        found = await history.request(database, request_id)
        if found is None:
            raise NotFound(f"no request on record has the id {request_id}")
        return found

    return [list_requests, show_request]


def _statuses(text: str) -> tuple[int, int] | None:
    """The first and the last that are meant."""
    if not text:
        return None
    return int(text.replace("x", "0")), int(text.replace("x", "9"))
