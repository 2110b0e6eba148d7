"""`GET /v0/files/…`: another node fetches a file of a model from this one (`models.tickets` says how).

What is served are files of models as the store keeps them, and nothing else: no hidden file, no part of a download, and
nothing that a link leads to outside the places of models.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

from litestar import Response, get, head
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from llm_router.errors import BadRequest, NotFound
from llm_router.gateway.control_app import AnyRequest
from llm_router.models import names
from llm_router.models.ranges import Part, asked, part
from llm_router.models.tickets import FILES, check

BLOCK = 1 << 20  # bytes read at once

_GGUF = re.compile(r"model((?:-\d{5}-of-\d{5})?\.gguf)")
_UNFINISHED = (".partial", ".tag")


def file_routes(
    places: Callable[[], Iterable[Path]], key: Callable[[], str], clock: Callable[[], float] = time.time
) -> list[HTTPRouteHandler]:
    """The handlers. `places`: directories with models, the first counts; `key`: what the router is let in by."""

    @get(FILES + "/{rest:path}", include_in_schema=False)
    async def fetch(request: AnyRequest) -> Response[bytes] | Stream:
        """A file, or a part of it, for who has a ticket."""
        found, what = await _found(request, places, key, clock)
        if what.start == what.stop and what.status != 200:
            return Response(b"", status_code=what.status, headers=what.headers, media_type=TYPE)
        return Stream(_blocks(found, what), status_code=what.status, headers=what.headers, media_type=TYPE)

    @head(FILES + "/{rest:path}", include_in_schema=False)
    async def look(request: AnyRequest) -> Response[None]:
        """The same without its bytes."""
        _, what = await _found(request, places, key, clock)
        return Response(None, status_code=what.status, headers=what.headers | {"content-type": TYPE})

    return [fetch, look]


TYPE = "application/octet-stream"


async def _found(
    request: AnyRequest, places: Callable[[], Iterable[Path]], key: Callable[[], str], clock: Callable[[], float]
) -> tuple[Path, Part]:
    """The file, and which part of it is wanted."""
    path = request.scope["raw_path"].decode("ascii", "replace")
    query = {name: value for name, value in request.query_params.items() if isinstance(value, str)}
    ticket = check(key(), path, query, clock())
    model, _, name = path.removeprefix(FILES + "/").partition("/")
    file = await asyncio.to_thread(stored, places(), unquote(model), unquote(name))
    if file is None or (await asyncio.to_thread(file.stat)).st_size != ticket.size:
        raise NotFound(f"there is no such file of '{unquote(model)}' here: ask elsewhere")
    tag = f'"{ticket.sha256}"' if ticket.sha256 else ""
    return file, part(asked(request.method, request.headers), ticket.size, tag)


def stored(places: Iterable[Path], model: str, name: str) -> Path | None:
    """Where a file of a model lies, `name` as in `tickets.stored_name`; None: it does not. It reads the disk.

    Raises:
        BadRequest: a name that no model, or no file of one, has.
    """
    gguf = _GGUF.fullmatch(name)
    if gguf is None and (not names.is_name(name.lower()) or ":" in name or name.lower().endswith(_UNFINISHED)):
        raise BadRequest(f"{name[:80]!r} is no name of a model's file")
    for place in places:
        base = names.path_below(place, model)
        path = base.with_name(base.name + gguf[1]) if gguf else base / name
        if path.is_file() and path.resolve().is_relative_to(place.resolve()):
            return path
    return None


async def _blocks(path: Path, what: Part) -> AsyncIterator[bytes]:
    """The bytes of the part; fewer, where the file has become shorter: the answer then breaks off."""
    start = what.start
    file = await asyncio.to_thread(path.open, "rb")
    try:
        await asyncio.to_thread(file.seek, start)
        while start < what.stop and (block := await asyncio.to_thread(file.read, min(BLOCK, what.stop - start))):
            start += len(block)
            yield block
    finally:
        file.close()
