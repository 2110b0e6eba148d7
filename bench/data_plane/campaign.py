"""What runs when: everything starts, holds its streams, is warmed up, and then is loaded in turn, round after round.

Memory comes first: what a process has taken once, under a load or for many streams, it keeps and would not take again.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec

from bench.data_plane.meter import Meter
from bench.data_plane.results import Kind, Results, Sample, summarize
from bench.data_plane.streams import held_open
from bench.data_plane.subjects import Other, Subject, direct, other, proxy, router
from bench.data_plane.tools import require_files, require_programs
from bench.data_plane.upstreams import FOREVER, TOKENS, question, upstreams
from bench.data_plane.wrk import load

FEW = 10  # streams of which memory is not counted, but what the first ones take once and for all
WARM_UP = 1  # second of each load, not counted: connections are made, and what is used often is known
ASKED: dict[Kind, bytes] = {"unary": question("quick"), "stream": question("quick", TOKENS)}


class Plan(msgspec.Struct, frozen=True):
    """What is to be measured. `others`: routers of other people; for them upstreams listen from `first_port` on."""

    rounds: int
    seconds: int
    connections: int
    streams: int
    others: Sequence[Other]
    first_port: int


class Campaign:
    """One bench. `tell` is given a line about what happens."""

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell

    async def run(self) -> Results:
        """Measure.

        Raises:
            NotReadyError: something is missing, did not start, or does not answer; maybe in an exception group.
        """
        require_programs()
        with TemporaryDirectory(prefix="bench-data-plane-") as home:
            async with self._subjects(Path(home)) as subjects:
                memory = {s.name: await self._memory(s, s.meter) for s in subjects if s.meter is not None}
                await self._warm_up(subjects)
                samples = [sample for n in range(self._plan.rounds) for sample in await self._round(n, subjects)]
        return summarize(samples, memory, self._plan.streams)

    @asynccontextmanager
    async def _subjects(self, home: Path) -> AsyncIterator[list[Subject]]:
        plan = self._plan
        files = require_files(max(plan.streams, plan.connections))
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            ports = await stack.enter_async_context(upstreams(plan.first_port if plan.others else 0, home))
            self._tell(f"upstreams on {', '.join(f'http://127.0.0.1:{port}' for port in ports)}")
            nginx = await stack.enter_async_context(proxy(session, ports, files, home))
            ours = await stack.enter_async_context(router(session, ports, plan.streams, home))
            yield [direct(ports[0]), nginx, ours, *[await other(session, o) for o in plan.others]]

    async def _warm_up(self, subjects: Sequence[Subject]) -> None:
        self._tell(f"warm-up of {', '.join(subject.name for subject in subjects)}")
        for subject in subjects:
            for body in ASKED.values():
                await load(subject.url, body, self._plan.connections, WARM_UP)

    async def _memory(self, subject: Subject, meter: Meter) -> float:
        """Bytes for each stream that is held open."""
        self._tell(f"{self._plan.streams} streams through {subject.name}")
        body = question("slow", FOREVER)
        async with held_open(subject.url, body, FEW):
            before = meter.memory()
            async with held_open(subject.url, body, self._plan.streams):
                return (meter.memory() - before) / self._plan.streams

    async def _round(self, n: int, subjects: Sequence[Subject]) -> list[Sample]:
        self._tell(f"round {n + 1} of {self._plan.rounds}")
        turn = rotated(subjects, n)
        return [await self._one(n + 1, kind, subject) for kind in ASKED for subject in turn]

    async def _one(self, n: int, kind: Kind, subject: Subject) -> Sample:
        before = None if subject.meter is None else subject.meter.cpu()
        loaded = await load(subject.url, ASKED[kind], self._plan.connections, self._plan.seconds)
        cpu = None if subject.meter is None or before is None else subject.meter.cpu() - before
        return Sample(n, kind, subject.name, loaded, cpu)


def rotated(subjects: Sequence[Subject], n: int) -> list[Subject]:
    """The order of a round: each is first in its turn, and neighbours stay neighbours."""
    first = n % len(subjects)
    return [*subjects[first:], *subjects[:first]]
