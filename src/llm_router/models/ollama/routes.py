"""The paths of Ollama's model endpoints, alike on router and node; what they do there is said by `Actions`.

`POST /api/generate` and `/api/chat` come here only where they take a model out of memory: all others are inference.

Source: ollama/ollama `server/routes.go` (paths, statuses, bodies).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from litestar import MediaType, Response, delete, get, head, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from llm_router.gateway.control_app import AnyRequest
from llm_router.models.ollama.asked import checked_digest
from llm_router.models.ollama.calls import Lines, Refused
from llm_router.wire.dialects.ollama import Ps, Tags, Unloaded

# Of `create`, with a licence or a conversation in it; all others are a few names.
BODY_SIZE = 4_000_000  # bytes
# What they are asked and answer is Ollama's to document, and they are no part of our own description of the API.
_OLLAMAS: dict[str, Any] = {"include_in_schema": False, "request_max_body_size": BODY_SIZE}


class Actions(Protocol):
    """What is done for one request. Everything raises errors of ours, and Refused with what somebody else said."""

    def tags(self) -> Tags:
        """The models that can be asked for."""

    async def ps(self) -> Ps:
        """The models in memory."""

    async def pull(self, body: bytes) -> Response[Any]:
        """Fetch a model."""

    async def push(self, body: bytes) -> Response[Any]:
        """Send a model to a registry."""

    async def create(self, body: bytes) -> Response[Any]:
        """Make a model."""

    async def delete(self, body: bytes) -> None:
        """Delete a model."""

    async def copy(self, body: bytes) -> None:
        """Give a model a second name."""

    async def has_blob(self, digest: str) -> bool:
        """Whether a blob is there to create a model of."""

    async def take_blob(self, digest: str, blocks: Lines) -> int:
        """Take a blob to create a model of; 200: it was there, 201: it is now."""

    async def unload(self, body: bytes) -> str:
        """Take a model out of memory; its name, as the client wrote it."""


def model_routes(actions: Callable[[AnyRequest], Actions]) -> list[HTTPRouteHandler]:
    """The handlers; `actions`: who does what a request wants."""
    return [*_lists(actions), *_streams(actions), *_changes(actions), *_blobs(actions), *_unloads(actions)]


def _lists(actions: Callable[[AnyRequest], Actions]) -> list[HTTPRouteHandler]:
    @get("/api/tags", sync_to_thread=False, tags=["models"])
    def tags(request: AnyRequest) -> Tags:
        """Every model that can be asked for now, as Ollama lists them."""
        return actions(request).tags()

    @get("/api/ps", tags=["models"])
    async def ps(request: AnyRequest) -> Ps:
        """The models in memory, as Ollama lists them."""
        return await actions(request).ps()

    return [tags, ps]


def _streams(actions: Callable[[AnyRequest], Actions]) -> list[HTTPRouteHandler]:
    @post("/api/pull", status_code=200, **_OLLAMAS)
    async def pull(request: AnyRequest) -> Response[Any]:
        return await actions(request).pull(await request.body())

    @post("/api/push", status_code=200, **_OLLAMAS)
    async def push(request: AnyRequest) -> Response[Any]:
        return await actions(request).push(await request.body())

    @post("/api/create", status_code=200, **_OLLAMAS)
    async def create(request: AnyRequest) -> Response[Any]:
        return await actions(request).create(await request.body())

    return [pull, push, create]


def _changes(actions: Callable[[AnyRequest], Actions]) -> list[HTTPRouteHandler]:
    @delete("/api/delete", status_code=200, **_OLLAMAS)
    async def remove(request: AnyRequest) -> Response[Any]:
        try:
            await actions(request).delete(await request.body())
        except Refused as refused:
            return refused.answer()
        return Response(b"")

    @post("/api/copy", status_code=200, **_OLLAMAS)
    async def copy(request: AnyRequest) -> Response[Any]:
        try:
            await actions(request).copy(await request.body())
        except Refused as refused:
            return refused.answer()
        return Response(b"")

    return [remove, copy]


def _blobs(actions: Callable[[AnyRequest], Actions]) -> list[HTTPRouteHandler]:
    @head("/api/blobs/{digest:str}", include_in_schema=False)
    async def look(request: AnyRequest, digest: FromPath[str]) -> Response[None]:
        try:
            found = await actions(request).has_blob(checked_digest(digest))
        except Refused as refused:
            return Response(None, status_code=refused.status)
        return Response(None, status_code=200 if found else 404)

    @post("/api/blobs/{digest:str}", include_in_schema=False, request_max_body_size=None)  # as large as a model
    async def take(request: AnyRequest, digest: FromPath[str]) -> Response[Any]:
        try:
            status = await actions(request).take_blob(checked_digest(digest), _blocks(request))
        except Refused as refused:
            return refused.answer()
        return Response(b"", status_code=status)

    return [look, take]


def _unloads(actions: Callable[[AnyRequest], Actions]) -> list[HTTPRouteHandler]:
    async def unloaded(request: AnyRequest, *, chat: bool) -> Response[Any]:
        try:
            model = await actions(request).unload(await request.body())
        except Refused as refused:
            return refused.answer()
        return Response(Unloaded.of(model, datetime.now(UTC), chat=chat), media_type=MediaType.JSON)

    @post("/api/generate", status_code=200, **_OLLAMAS)
    async def generate(request: AnyRequest) -> Response[Any]:
        return await unloaded(request, chat=False)

    @post("/api/chat", status_code=200, **_OLLAMAS)
    async def chat(request: AnyRequest) -> Response[Any]:
        return await unloaded(request, chat=True)

    return [generate, chat]


async def _blocks(request: AnyRequest) -> Lines:
    """The body as it comes: never all of it at once."""
    async for block in request.stream():
        if block:
            yield block
