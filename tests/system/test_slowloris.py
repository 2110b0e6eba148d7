"""A thousand clients that send a byte per second, heads or bodies: nobody else notices, and they are shown the door.

Nothing here depends on the machine's speed: what the well-behaved client sees with and without them is compared within
one run, in turns, by medians.
"""

import asyncio
import resource
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import NamedTuple

import pytest
from tests.doubles.rough_clients import Clients, Plan
from tests.system.harness import House, Router, parse
from tests.system.rough import closed, files, quiet, rough, together

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CROWD = 1000  # connections (issue 5)
NEEDED = 2 * CROWD + 500  # files of this process, and of the router, and some more for what else there is
EVERY = 1.0  # seconds between two bytes of one connection
TICK = 0.01  # seconds: in a hundredth of them all, so that no moment has more of them than another
ROUNDS = 3
WATCHED = 2.5  # seconds of each, with them and without
ATTEMPTS = 3  # the machine has others to serve too: the comparison has to go well once
WORSE = 2.0  # times as long, at most, may the slowest hundredth of the answers take (issue 5)
NOTICED = 0.02  # seconds; less is no difference that a person, or a busy machine's scheduler, would know of
HEAD_TIMEOUT = 6.0  # seconds; longer than they are watched
BODY_TIMEOUT = 4.0  # seconds; longer than from one byte to the next
PATIENCE = 60.0  # seconds until all of them must be gone; they are after the time-out, unless the machine is very busy

ASKS = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
# What they send at once; bytes follow, one after the other, that never come to an end.
HEADS = (b"", b"GET /health HTTP/1.1\r\n", ASKS + b"Content-Length: 2\r\nX-Slow: ")
BODIES = (ASKS + b"Content-Length: 100000\r\n\r\n", ASKS + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n")
FOLLOWS = {HEADS[0]: ASKS, HEADS[1]: b"X-Slow: yes\r\n" * 9}  # where any letter would not do


class Slow(asyncio.Protocol):
    """A client that takes its time."""

    def __init__(self, begins: bytes) -> None:
        self._begins = begins
        self._follows = iter(FOLLOWS.get(begins, b""))
        self.received = b""
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # asyncio's types know no better
        self.transport.write(self._begins)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.gone.set_result(None)

    def drip(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(bytes([next(self._follows, ord("x"))]))


@asynccontextmanager
async def trickling(url: str, beginnings: tuple[bytes, ...]) -> AsyncIterator[list[Slow]]:
    """The crowd, on its connections; within the block each sends a byte EVERY second."""
    host, port = url.removeprefix("http://").split(":")
    loop = asyncio.get_running_loop()
    crowd = []
    for i in range(CROWD):
        begins = beginnings[i % len(beginnings)]
        crowd.append((await loop.create_connection(lambda begins=begins: Slow(begins), host, int(port)))[1])  # type: ignore[misc]  # bound per turn
    dripping = asyncio.create_task(drip_on(crowd))
    try:
        yield crowd
    finally:
        dripping.cancel()


async def drip_on(crowd: list[Slow]) -> None:
    turns = round(EVERY / TICK)
    for turn in count():
        for slow in crowd[turn % turns :: turns]:
            slow.drip()
        await asyncio.sleep(TICK)  # noqa: TID251 - a byte at a time is what this is about


class Seen(NamedTuple):
    """The time of the slowest hundredth of the answers, in seconds, without and with the crowd."""

    alone: float
    among: float

    def is_fine(self) -> bool:
        return self.among <= max(WORSE * self.alone, self.alone + NOTICED)


class Watch:
    """A well-behaved client at a router, with the crowd beside it in every other turn."""

    def __init__(self, router: Router, beginnings: tuple[bytes, ...]) -> None:
        self._router = router
        self._clients = Clients(router.url)
        self._beginnings = beginnings
        self._ids = count()

    async def look(self, *, until_refused: bool) -> Seen:
        """Medians of ROUNDS. `until_refused`: they trickle till the end; else they stand still when this has looked."""
        alone, among = [], []
        for _ in range(ROUNDS):
            alone.append(await self._slowest())
            among.append(await self._slowest_among(until_refused=until_refused))
        await self._clients.close()
        return Seen(statistics.median(alone), statistics.median(among))

    async def _slowest_among(self, *, until_refused: bool) -> float:
        at_first = files(self._router)
        async with trickling(self._router.url, self._beginnings) as crowd:
            slowest = await self._slowest()
            if until_refused:
                await all_gone(crowd)
        await all_gone(crowd)
        assert {status(slow) for slow in crowd} == {408}
        await asyncio.to_thread(closed, self._router, at_first)
        return slowest

    async def _slowest(self) -> float:
        """The 99th percentile of what its answers take, asked for one after the other."""
        times: list[float] = []
        end = time.monotonic() + WATCHED
        while (began := time.monotonic()) < end or len(times) < 100:
            assert (await self._clients.ask(Plan(id=f"well-behaved-{next(self._ids)}"))).kind == "answered"
            times.append(time.monotonic() - began)
        return statistics.quantiles(times, n=100)[-1]


async def all_gone(crowd: list[Slow]) -> None:
    """Wait until the router has hung up on each of them."""
    _, there = await asyncio.wait([slow.gone for slow in crowd], timeout=PATIENCE)
    assert not there, f"{len(there)} are still there"


def status(slow: Slow) -> int:
    """What it was told; 0: nothing."""
    return parse(slow.received).status if slow.received else 0


def compare(router: Router, beginnings: tuple[bytes, ...], *, until_refused: bool) -> list[Seen]:
    """What was seen, until it was fine or for ATTEMPTS."""
    seen: list[Seen] = []
    while len(seen) < ATTEMPTS and not any(s.is_fine() for s in seen):
        seen.append(together(Watch(router, beginnings).look(until_refused=until_refused)))
    return seen


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many as are needed may be open, here and in the processes that are started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < NEEDED:
        pytest.skip(f"needs {NEEDED} open files, and no more than {hard} are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, NEEDED), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def router(many_files: None, house: House) -> Router:  # noqa: ARG001 - before the house
    router = house.router("--head-timeout", f"{HEAD_TIMEOUT}", "--body-timeout", f"{BODY_TIMEOUT}")
    router.attach(rough(house, "server", "steady"))
    return router


def test_trickled_heads(router: Router) -> None:
    """Others are served as quickly as ever; a head has its time as a whole, then it is 408 and good-bye."""
    seen = compare(router, HEADS, until_refused=True)
    assert any(s.is_fine() for s in seen), seen
    quiet(router)


def test_trickled_bodies(router: Router) -> None:
    """Likewise; a body that comes is let come, and when it stands still it is 408 as well."""
    seen = compare(router, BODIES, until_refused=False)
    assert any(s.is_fine() for s in seen), seen
    quiet(router)
