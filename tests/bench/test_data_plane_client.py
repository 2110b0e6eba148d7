"""What `client.c` sees of the connections it holds, in front of servers that do as a test wants."""

import asyncio
import gc
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from bench.data_plane.client import SOURCE, Seen, client, read
from bench.data_plane.compiler import compiled
from bench.data_plane.upstreams import FOREVER, PATH, question, upstreams
from bench.data_plane.wrk import Load
from bench.processes import NotReadyError

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the client is in C, and there is no compiler")

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b"a\r\ndata: {}\n\n\r\n"
LAST = b"0\r\n\r\n"
BODY = question("slow", FOREVER)
A_SECOND_AND_MORE = 1.2


@pytest.fixture
async def program(tmp_path: Path) -> Path:
    return await compiled(SOURCE, tmp_path)


class Server:
    """Answers each request with `head`, and then with as many `pieces`; counts by connection.

    `asked`: requests on each connection that is open; `seen(n)` waits until there were so many in all.
    """

    def __init__(self, head: bytes, pieces: int) -> None:
        self._head = head
        self._pieces = pieces
        self._all = 0
        self._more = asyncio.Condition()
        self.asked: dict[asyncio.StreamWriter, int] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked[writer] = 0
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(len(BODY))
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            del self.asked[writer]
            writer.transport.abort()

    async def seen(self, requests: int) -> None:
        async with self._more:
            await self._more.wait_for(lambda: self._all >= requests)

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self._head + PIECE * self._pieces)
        async with self._more:
            self.asked[writer] += 1
            self._all += 1
            self._more.notify_all()


@asynccontextmanager
async def serving(head: bytes, pieces: int = 0) -> AsyncIterator[tuple[str, Server]]:
    """Its URL, and itself."""
    server = Server(head, pieces)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}{PATH}", server
        for writer in list(server.asked):
            writer.transport.abort()


async def pass_by(seconds: float) -> None:
    await asyncio.sleep(seconds)  # noqa: TID251 - what is seen is that for so long nothing comes


async def test_connections_are_open_all_at_once_while_they_are_measured(program: Path) -> None:
    """Every one of them was answered by then, and none more than once: they are idle."""
    async with serving(WHOLE) as (url, server), client(program, url, BODY, 40) as log:
        await asyncio.to_thread(gc.collect)  # a turn of the loop: who is not held is gone
        assert list(server.asked.values()) == [1] * 40
    seen = read(log)
    assert (seen.connections, seen.lost, seen.due, seen.times) == (40, 0, 0, 0)


async def test_a_connection_that_the_other_side_closes_is_lost(program: Path) -> None:
    """An idle one no less than one that waits."""
    async with serving(WHOLE) as (url, server):
        async with client(program, url, BODY, 5) as log:
            for writer in list(server.asked)[:2]:
                writer.close()
                await writer.wait_closed()
        assert read(log).lost == 2


async def test_gaps_are_between_the_pieces_of_one_stream(program: Path) -> None:
    """Each piece that comes while it is watched ends one; the upstreams of the bench say them again and again."""
    async with upstreams(0, program.parent) as ports:
        url = f"http://127.0.0.1:{ports[0]}{PATH}"
        async with client(program, url, BODY, 3) as log:
            await pass_by(A_SECOND_AND_MORE)
    seen = read(log)
    assert (seen.connections, seen.lost, seen.due) == (3, 0, 0)
    assert seen.times > 0
    assert 0 < seen.p50 <= seen.p99 <= seen.max
    assert seen.duration > 1_000_000


async def test_a_stream_that_falls_silent_is_late_though_no_piece_ends_its_gap(program: Path) -> None:
    """For more than a second: each of them counts (issue 5: not one gap over 1 s)."""
    async with serving(STREAM, pieces=2) as (url, _), client(program, url, BODY, 3) as log:
        await pass_by(A_SECOND_AND_MORE)
    seen = read(log)
    assert (seen.lost, seen.late) == (0, 3)
    assert seen.max > 1_000_000


async def test_a_stream_that_ends_is_lost(program: Path) -> None:
    """However properly: nobody asked for so few pieces."""
    async with serving(STREAM, pieces=2) as (url, server):
        async with client(program, url, BODY, 3) as log:
            for writer in server.asked:
                writer.write(LAST)
                await writer.drain()
        assert read(log).lost == 3


async def test_requests_are_made_over_all_connections_in_turn(program: Path) -> None:
    """Whoever has been free for longest is next, and nothing that was due is left out."""
    async with serving(WHOLE) as (url, server):
        async with client(program, url, BODY, 4, rate=500) as log:
            await server.seen(44)
            assert min(server.asked.values()) > 1
        seen = read(log)
    assert (seen.lost, seen.refused) == (0, 0)
    assert seen.times == seen.due >= 40
    assert seen.as_load() == Load(seen.times, seen.duration, seen.p50, seen.p99, refused=0, broken=0)


async def test_a_request_waits_from_when_it_was_due(program: Path) -> None:
    """Not from when a connection was free for it: a server that does nothing for a second delays all that were due."""
    async with serving(WHOLE) as (url, server), client(program, url, BODY, 1, rate=100) as log:
        await server.seen(2)
        time.sleep(A_SECOND_AND_MORE)  # noqa: ASYNC251 - the server shares this loop, and stands still with it
    seen = read(log)
    assert seen.times == seen.due
    assert seen.max > 1_000_000


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "after 0 of 3 connections: HTTP/1.1 503 Service Unavailable"),
        (STREAM + LAST, "after 0 of 3 connections: a stream ended"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2000, "after 0 of 3 connections: a head is too long"),
    ],
)
async def test_connections_that_are_not_answered_end_the_bench(program: Path, answer: bytes, why: str) -> None:
    """With the URL and the reason."""
    async with serving(answer) as (url, _):
        with pytest.raises(NotReadyError, match=f"{url} does not hold 3 connections: {why}"):
            async with client(program, url, BODY, 3):
                pass


async def test_a_client_that_did_not_measure_is_quoted(tmp_path: Path) -> None:
    """Whoever started the bench reads its own words; and its numbers come exactly."""
    log = tmp_path / "client.log"
    log.write_text("epoll_ctl: No space left on device\n")
    with pytest.raises(NotReadyError, match="the client did not measure: epoll_ctl: No space left on device"):
        read(log)
    seen = Seen(32, 1, 2, 15_000, 14_990, 98, 210, 1893, 0, 3_000_041)
    log.write_bytes(msgspec.json.encode(seen) + b"\n")
    assert read(log) == seen
    assert seen.as_load().failed == 12
