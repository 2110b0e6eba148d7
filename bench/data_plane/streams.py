"""Many streams held open at once, each by a client that reads it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from bench.processes import START, NotReadyError

AT_ONCE = 100  # connections being made: below the backlog of any server
SEEN = 2  # tokens of each, so that all of them are relayed and not only begun


@asynccontextmanager
async def held_open(url: str, body: bytes, count: int) -> AsyncIterator[None]:
    """`count` streams, all of them under way.

    Raises:
        NotReadyError: one of them is refused or ends, or all together take longer than START.
    """
    turn = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(START), asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(_hold(stack, turn, url, body))
        except* (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as errors:
            raise NotReadyError(f"{url} does not hold {count} streams: {_first(errors)!r}") from errors
        yield


async def _hold(stack: AsyncExitStack, turn: asyncio.Semaphore, url: str, body: bytes) -> None:
    where = urlsplit(url)
    async with turn:
        reader, writer = await asyncio.open_connection(where.hostname, where.port or 80)
        stack.callback(_hang_up, writer)
        writer.write(_request(where.path, where.netloc, body))
        head = await reader.readuntil(b"\r\n\r\n")
    if head.split(maxsplit=2)[1] != b"200":
        raise ConnectionRefusedError(head.partition(b"\r\n")[0].decode("latin-1"))
    for _ in range(SEEN):
        await reader.readuntil(b"data: ")


def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Keeps the writer until then, too: one that nobody has any more closes its connection."""
    writer.transport.abort()


def _request(path: str, host: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
