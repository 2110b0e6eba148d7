"""Clients that do not read what they asked for: the router holds a little of it for each, and makes the node wait."""

import asyncio

import pytest
from tests.doubles.rough_clients import PATH, Api, Clients, Plan, ending_of
from tests.doubles.rough_upstream import Behaviour
from tests.system.harness import START, House, Router, eventually
from tests.system.rough import Rough, accounted, files, memory, quiet, rough, together

LARGE = Behaviour(tokens=5000, size=10_000)  # 50 MB; what lies in the kernel's buffers between us is some of that
FIRST = Behaviour(tokens=200, size=10_000)  # what the first large answer takes once and for all is not counted
NEVER = 1e6  # seconds for which a client does not read
ALONE = 2_000_000  # bytes that the router may grow by for one of them
# Bytes for each of many: what one read from the node brings, 256 kB in uvloop, what a translation makes of it, and
# asyncio's high-water mark, 64 kB; the rest is the allocator's.
EACH = 700_000
MANY = 50


class Sleepers:
    """Clients that ask for LARGE and read nothing of it."""

    def __init__(self, router: Router, server: Rough, api: Api, *, stream: bool) -> None:
        self._router = router
        self._server = server
        self._clients = Clients(router.url)
        self._plan = Plan(id="sleeper", api=api, stream=stream, behaviour=LARGE, rests=NEVER)

    async def grown(self, number: int) -> int:
        """By how many bytes the router is larger when all of them have what they can get without reading.

        One wakes up then and reads to the end; the others leave.
        """
        before = memory(self._router)
        lines = [await self._clients.begin(self._plan) for _ in range(number)]
        for line in lines:
            await line.begun  # from then on it rests; who is woken before that sleeps for ever
        await asyncio.to_thread(eventually, lambda: self._server.report().full == number, START)
        grown = memory(self._router) - before
        lines[0].wake()
        await lines[0].over
        assert ending_of(self._plan, lines[0].answer).kind == "answered"
        for line in lines:
            line.leave(resets=True)
            await line.gone
        await asyncio.to_thread(quiet, self._router, self._server)
        return grown

    async def warm_up(self) -> None:
        for api in PATH:
            for stream in (True, False):
                plan = Plan(id="first", api=api, stream=stream, behaviour=FIRST, fresh=True)
                assert (await self._clients.ask(plan)).kind == "answered"

    async def sleep(self) -> tuple[int, int]:
        """What one of them takes, and what MANY take."""
        await self.warm_up()
        return await self.grown(1), await self.grown(MANY)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("api", "stream"),
    [("openai", True), ("ollama", True), ("openai", False)],
    ids=["passed on", "translated", "in one piece"],
)
def test_answers_that_nobody_reads(house: House, api: Api, stream: bool) -> None:  # noqa: FBT001 - a parameter
    """However much is to come, the router's memory stays; who reads in the end gets all of it."""
    router = house.router()
    server = rough(house, "server", "steady")
    router.attach(server, slots=2 * MANY)
    at_first = files(router)

    alone, many = together(Sleepers(router, server, api, stream=stream).sleep())

    assert alone < ALONE
    assert many < MANY * EACH
    accounted(router, at_first, server)
