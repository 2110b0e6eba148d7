"""Many connections that are held and watched, or asked over at a steady pace: `client.c`, running."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import mkstemp
from urllib.parse import urlsplit

import msgspec

from bench.data_plane.wrk import Load
from bench.processes import START, NotReadyError, running
from llm_router.contract import UNREADABLE

SOURCE = Path(__file__).with_name("client.c")


class Seen(msgspec.Struct, frozen=True):
    """What a client saw while it watched, for `duration`; times in microseconds.

    Of `connections`, `lost` were closed by the other side. `due` requests should have been made. `times`: how many
    gaps of streams, or waits for an answer, `p50`, `p99`, `max` are of; `late` of them were over a second. `refused`:
    answers with another status than 200.
    """

    connections: int
    lost: int
    refused: int
    due: int
    times: int
    p50: int
    p99: int
    max: int
    late: int
    duration: int

    def as_load(self) -> Load:
        """The same in the terms of a load, where requests were made."""
        unanswered = max(0, self.due - self.times)
        return Load(self.times, self.duration, self.p50, self.p99, self.refused, unanswered)


@asynccontextmanager
async def client(program: Path, url: str, body: bytes, connections: int, rate: int = 0) -> AsyncIterator[Path]:
    """Connections that were all answered, and are held for as long as the block lasts; afterwards `read` tells.

    `program`: the compiled client; it writes beside itself. With `rate`, so many requests are made per second.

    Raises:
        NotReadyError: a connection was refused or closed, or all together take longer than bench.processes.START.
    """
    where = urlsplit(url)
    arguments = [where.hostname or "", str(where.port or 80), where.path, body.decode(), str(connections), str(rate)]
    handle, log = mkstemp(prefix="client-", suffix=".log", dir=program.parent)
    os.close(handle)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(running([str(program), *arguments], {}, Path(log)))
        except NotReadyError:
            why = _last_line(Path(log)) or f"not within {START:g} s"
            raise NotReadyError(f"{url} does not hold {connections} connections: {why}") from None
        yield Path(log)


async def paced(program: Path, url: str, body: bytes, connections: int, rate: int, seconds: int) -> Load:
    """Ask `rate` times a second for so long, whether or not answers come; times count from when each was due.

    Raises:
        NotReadyError: a connection was refused or closed before the first was due.
    """
    async with client(program, url, body, connections, rate) as log:
        await asyncio.sleep(seconds)  # noqa: TID251 - this is how long it takes
    return read(log).as_load()


def read(log: Path) -> Seen:
    """What the client saw.

    Raises:
        NotReadyError: it did not come to its end; with its own words.
    """
    line = _last_line(log)
    try:
        return msgspec.json.decode(line, type=Seen)
    except UNREADABLE:
        raise NotReadyError(f"the client did not measure: {line}") from None


def _last_line(log: Path) -> str:
    return log.read_text("utf-8", "replace").strip().rpartition("\n")[2]
