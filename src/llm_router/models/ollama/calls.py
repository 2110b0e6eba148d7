"""Calls to servers that speak Ollama's API: Ollama itself, attached ones, agents with one or without.

An answer of several records is NDJSON; the last one says `success` or has an `error` (Ollama, `docs/api.md`).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from litestar import MediaType, Response
from litestar.response import Stream

from llm_router.contract import UNREADABLE
from llm_router.errors import UpstreamFailed
from llm_router.gateway.probe import MAX_BODY, read_whole, why
from llm_router.wire.dialects.ollama import OLLAMA, failure

CONNECT_WITHIN = 5.0  # seconds
SILENT_FOR = 600.0  # seconds; between two records it may read 20 GB from a slow disk, to compute their sum
SHOWN = 500  # bytes of an error that is not of Ollama's shape
SUCCESS = "success"

Lines = AsyncGenerator[bytes, None]  # records, without their ends


class Server(msgspec.Struct, frozen=True):
    """One of them: what people call it, where it is, and the token by which it lets us in."""

    name: str
    url: str
    token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """To be sent with each request."""
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


class Record(msgspec.Struct, omit_defaults=True):
    """One line of an answer. Bytes; `digest` names the file that they are counted of."""

    status: str | int = ""  # beside an `error` it is an HTTP status
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""


class Refused(Exception):
    """The server answered with an error: its status, and what it said."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def answer(self) -> Response[Any]:
        """The same for our own client."""
        return Response(failure(self.message), status_code=self.status, media_type=MediaType.JSON)


class Calls:
    """Makes them. Every method raises Refused, or UpstreamFailed where there was no answer."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(
        self, server: Server, method: str, path: str, body: bytes = b"", seconds: float = SILENT_FOR
    ) -> bytes:
        """The body of a whole answer."""
        limits = aiohttp.ClientTimeout(total=seconds, connect=CONNECT_WITHIN)
        async with self._call(server, method, path, body or None, limits) as response:
            return await read_whole(response, MAX_BODY)

    async def has(self, server: Server, path: str, seconds: float) -> bool:
        """Whether HEAD finds it; one that does not answer has nothing."""
        try:
            await self.ask(server, "HEAD", path, seconds=seconds)
        except (Refused, UpstreamFailed):
            return False
        return True

    async def send(self, server: Server, path: str, blocks: AsyncIterator[bytes]) -> int:
        """Send what comes in blocks; the status of the answer."""
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_WITHIN)  # who sends may be as slow as they like
        async with self._call(server, "POST", path, blocks, limits) as response:
            return response.status

    async def records(self, server: Server, path: str, body: bytes) -> Lines:
        """The lines of an answer, without their ends."""
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_WITHIN, sock_read=SILENT_FOR)
        async with self._call(server, "POST", path, body, limits) as response:
            async for line in response.content:
                if line.strip():
                    yield line.strip()

    @asynccontextmanager
    async def _call(
        self,
        server: Server,
        method: str,
        path: str,
        data: bytes | AsyncIterator[bytes] | None,
        limits: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = f"{server.url}{path}"
        headers = server.headers | ({"content-type": "application/json"} if isinstance(data, bytes) else {})
        options: Any = {"data": data, "headers": headers, "timeout": limits, "allow_redirects": False}
        try:
            async with self._session.request(method, url, **options) as response:
                if response.status >= 300:  # nobody is followed elsewhere
                    raise _refusal(server, response.status, await read_whole(response, MAX_BODY))
                yield response
        except TimeoutError as error:
            raise UpstreamFailed(f"{server.name} fell silent ({url})") from error
        except (aiohttp.ClientError, ValueError) as error:  # ValueError: a line without an end
            reason = why(error) if isinstance(error, aiohttp.ClientError) else str(error)
            raise UpstreamFailed(f"{server.name} cannot be asked ({url}): {reason}") from error


def record(line: bytes) -> Record:
    """What a line says; one that is none says nothing."""
    try:
        return msgspec.json.decode(line, type=Record)
    except UNREADABLE:
        return Record()


def said(**fields: Any) -> bytes:  # noqa: ANN401 - those of Record
    """A line of our own."""
    return msgspec.json.encode(Record(**fields))


async def then(lines: Lines, finish: Callable[[], Awaitable[object]]) -> Lines:
    """The same lines; success is said when what follows from it is done."""
    async with aclosing(lines) as running:
        async for line in running:
            if record(line).status == SUCCESS:
                await finish()
            yield line


async def answered(lines: Lines, *, stream: bool) -> Response[Any]:
    """The lines as a response: each as it comes, or the last word alone, with a status that says how it ended.

    Raises:
        UpstreamFailed: there was not even a first one.
    """
    try:
        if stream:
            first = await anext(lines, b"")
            return Stream(_told(first, lines), media_type=OLLAMA.stream_type)
        return await _last_word(lines)
    except Refused as refused:
        return refused.answer()


async def _told(first: bytes, lines: Lines) -> Lines:
    """Whatever goes wrong from here on is said in the stream."""
    async with aclosing(lines) as running:
        try:
            yield first + b"\n"
            async for line in running:
                yield line + b"\n"
        except (Refused, UpstreamFailed) as error:
            yield failure(error.message) + b"\n"


async def _last_word(lines: Lines) -> Response[Any]:
    """Ollama, `server/routes.go`: `waitForStream`."""
    last = b""
    async for line in lines:
        last = line
        if error := (told := record(line)).error:
            raise Refused(told.status if isinstance(told.status, int) else 500, error)
    if not last:
        raise UpstreamFailed("the answer ended before it said how it went")
    return Response(last, media_type=MediaType.JSON)


class _Error(msgspec.Struct):
    error: str = ""


def _refusal(server: Server, status: int, body: bytes) -> Exception:
    if status == 401:  # what it was shown is ours, not our client's
        return UpstreamFailed(f"{server.name} does not let us in")
    try:
        reason = msgspec.json.decode(body, type=_Error).error
    except UNREADABLE:
        reason = body[:SHOWN].decode("utf-8", "replace").strip()
    return Refused(status if status >= 400 else 502, reason or f"{server.name} answered with status {status}")
