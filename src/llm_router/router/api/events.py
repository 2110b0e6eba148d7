"""`GET /v0/events`: what happened to the nodes, and, as a stream, everything that changes."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream

from llm_router import __version__
from llm_router.config import RouterConfig
from llm_router.contract import JoinLine
from llm_router.gateway.control_app import AnyRequest
from llm_router.router import history
from llm_router.router.access.who import who
from llm_router.router.api.export import download, wanted
from llm_router.router.api.refusals import also
from llm_router.router.api.requests import PAGE, As, Before, Limit
from llm_router.router.ledger import Ledger
from llm_router.router.live import Live
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import EventFilter, KeptEvent

# Settings that whoever may see the dashboard sees there: what explains what the router does. No paths, no addresses.
SHOWN = (
    "policy",
    "auth",
    "join",
    "announce",
    "queue_size",
    "queue_timeout",
    "answer_timeout",
    "token_timeout",
    "drain_timeout",
    "silence",
    "trial_after",
    "probe_every",
    "retention_days",
    "log_bodies",
)


class Viewer(msgspec.Struct, frozen=True):
    """Who watches; `local`: at this machine."""

    name: str
    scope: str
    local: bool


class Hello(msgspec.Struct, frozen=True):
    """The first message of a stream that begins anew. Times in seconds since the epoch.

    `replica`: the one that tells, where there are several.
    """

    version: str
    policy: str
    started: float
    now: float
    who: Viewer
    join: JoinLine
    settings: Mapping[str, Any]
    replica: str = ""


class Greeter:
    """Makes the first message of a stream."""

    def __init__(
        self, config: RouterConfig, join: Callable[[AnyRequest], Awaitable[JoinLine]], replica: str = ""
    ) -> None:
        """`join`: how further machines join, for whoever asks. `replica`: of `Hello`."""
        self._config = config
        self._replica = replica
        self._join = join
        self._settings = {name: getattr(config, name) for name in SHOWN}
        self._started = time.time()

    async def hello(self, request: AnyRequest) -> bytes:
        """The data of the message, for whoever asks with this request."""
        asking = who(request)
        hello = Hello(
            version=__version__,
            policy=self._config.policy,
            started=self._started,
            now=time.time(),
            who=Viewer(asking.name, asking.scope, asking.via == "local"),
            join=await self._join(request),
            settings=self._settings,
            replica=self._replica,
        )
        return msgspec.json.encode(hello)


def event_routes(database: Database, ledger: Ledger, live: Live, greeter: Greeter) -> list[HTTPRouteHandler]:
    """The handlers."""

    @get("/v0/events", tags=["history"], responses=also(200, list[KeptEvent], "As a list, a file or a stream."))
    async def list_events(
        request: AnyRequest,
        *,
        limit: Limit = None,
        before: Before = 0,
        event: FromQuery[str] = "",
        node: FromQuery[str] = "",
        q: FromQuery[str] = "",
        since: Annotated[str, QueryParameter(description="Of the stream: the last message's id that was seen.")] = "",
        form: As = "",
    ) -> Response[list[KeptEvent]] | Stream:
        """The newest events first; or, with `Accept: text/event-stream`, everything that changes, as it does.

        `event` is a name, or with a dot at its end the beginning of some; `node` an id or a name.
        """
        if request.headers.get("accept", "").startswith("text/event-stream"):
            # The header first: a browser that comes back by itself comes to the URL it was given, with an old `since`.
            last = request.headers.get("last-event-id", "") or since
            return _stream(live.stream(await greeter.hello(request), last))
        await ledger.flush()  # so that what has happened is in the answer
        which = EventFilter(event, node, q)
        form = wanted(request, form)
        if form:
            return download(
                "events", form, KeptEvent, history.events(database, which, limit or history.NO_LIMIT, before)
            )
        return Response(await database.run(queries.latest_events, limit or PAGE, which, before))

    return [list_events]


def _stream(messages: AsyncIterator[bytes]) -> Stream:
    # The last header is nginx's: a proxy before us shall pass on what comes when it comes.
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return Stream(messages, media_type="text/event-stream", headers=headers)
