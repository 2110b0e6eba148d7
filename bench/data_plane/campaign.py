"""What runs when: streams are held, then idle connections, then everything is loaded in turn, round after round.

Who is measured starts anew for each of the three: what a process has taken once, under a load or for many streams, it
keeps and would not take again. nginx and our router follow right after one another: the machine's speed drifts, and
only what is measured at nearly the same time can be compared.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec

from bench.data_plane.client import SOURCE, paced
from bench.data_plane.compiler import compiled
from bench.data_plane.holding import hold
from bench.data_plane.results import Held, Kind, Results, Sample, summarize
from bench.data_plane.subjects import Other, Subject, direct, other, proxy, router
from bench.data_plane.tools import require_files, require_programs, room_for
from bench.data_plane.upstreams import FOREVER, TOKENS, question, upstreams
from bench.data_plane.wrk import Load, load

WARM_UP = 1  # second of each load, not counted: connections are made, and what is used often is known
ASKED: dict[Kind, bytes] = {
    "unary": question("quick"),
    "stream": question("quick", TOKENS),
    "paced": question("quick"),
}


class Plan(msgspec.Struct, frozen=True):
    """What is to be measured; 0 `streams`, `idle` or `rate`: that is not.

    `rounds` of `seconds` for each load, by `connections` clients; `rate`: requests per second where they are paced.
    `streams` and `idle` connections are held for `hold` seconds. `others`: routers of other people; for them upstreams
    listen from `first_port` on.
    """

    rounds: int
    seconds: int
    connections: int
    rate: int
    streams: int
    idle: int
    hold: int
    others: Sequence[Other]
    first_port: int

    def kinds(self) -> list[Kind]:
        """The loads."""
        return ["unary", "stream", "paced"] if self.rate else ["unary", "stream"]


class Ground(msgspec.Struct, frozen=True):
    """Where a campaign takes place. `client`: the compiled one; `files`: how many a program may have open."""

    home: Path
    client: Path
    ports: Sequence[int]
    files: int
    session: aiohttp.ClientSession


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
        async with self._ground() as ground:
            streams = await self._streams(ground)
            idle = await self._idle(ground)
            rounds, medians = summarize(await self._loads(ground))
        return Results(rounds, medians, streams, idle, self._plan.idle, self._plan.rate)

    @asynccontextmanager
    async def _ground(self) -> AsyncIterator[Ground]:
        plan = self._plan
        files = require_files(max(plan.streams, plan.connections), plan.idle)
        async with AsyncExitStack() as stack:
            home = Path(stack.enter_context(TemporaryDirectory(prefix="bench-data-plane-")))
            ports = await stack.enter_async_context(upstreams(plan.first_port if plan.others else 0, home))
            self._tell(f"upstreams on {', '.join(f'http://127.0.0.1:{port}' for port in ports)}")
            session = await stack.enter_async_context(aiohttp.ClientSession())
            yield Ground(home, await compiled(SOURCE, home), ports, files, session)

    @asynccontextmanager
    async def _subjects(self, ground: Ground) -> AsyncIterator[list[Subject]]:
        """All of them, those that are ours to start as if they had never done anything."""
        session, ports = ground.session, ground.ports
        async with AsyncExitStack() as stack:
            home = Path(stack.enter_context(TemporaryDirectory(dir=ground.home)))
            nginx = await stack.enter_async_context(proxy(session, ports, ground.files, home))
            ours = await stack.enter_async_context(router(session, ports, self._plan.streams, home))
            yield [direct(ports[0]), nginx, ours, *[await other(session, o) for o in self._plan.others]]

    async def _streams(self, ground: Ground) -> list[Held]:
        """Going direct, too: what is late there is not the routers' doing."""
        if not self._plan.streams:
            return []
        body = question("slow", FOREVER)
        async with self._subjects(ground) as subjects:
            return [await self._hold(ground, s, body, self._plan.streams, "streams") for s in subjects]

    async def _idle(self, ground: Ground) -> list[Held]:
        count = room_for(self._plan.idle, ground.files)
        if not self._plan.idle:
            return []
        async with self._subjects(ground) as subjects:
            return [await self._hold(ground, s, ASKED["unary"], count, "idle connections") for s in subjects[1:]]

    async def _hold(self, ground: Ground, subject: Subject, body: bytes, count: int, what: str) -> Held:
        self._tell(f"{count} {what}: {subject.name}")
        return await hold(ground.client, subject, body, count, self._plan.hold)

    async def _loads(self, ground: Ground) -> list[Sample]:
        async with self._subjects(ground) as subjects:
            self._tell(f"warm-up of {', '.join(subject.name for subject in subjects)}")
            for subject in subjects:
                for kind in self._plan.kinds():
                    await self._load(ground, kind, subject, WARM_UP)
            return [sample for n in range(self._plan.rounds) for sample in await self._round(ground, n, subjects)]

    async def _round(self, ground: Ground, n: int, subjects: Sequence[Subject]) -> list[Sample]:
        self._tell(f"round {n + 1} of {self._plan.rounds}")
        turn = in_turn(subjects, n)
        return [await self._one(ground, n + 1, kind, subject) for kind in self._plan.kinds() for subject in turn]

    async def _one(self, ground: Ground, n: int, kind: Kind, subject: Subject) -> Sample:
        before = None if subject.meter is None else subject.meter.cpu()
        loaded = await self._load(ground, kind, subject, self._plan.seconds)
        cpu = None if subject.meter is None or before is None else subject.meter.cpu() - before
        return Sample(n, kind, subject.name, loaded, cpu)

    async def _load(self, ground: Ground, kind: Kind, subject: Subject, seconds: int) -> Load:
        connections, body = self._plan.connections, ASKED[kind]
        if kind != "paced":
            return await load(subject.url, body, connections, seconds)
        return await paced(ground.client, subject.url, body, connections, self._plan.rate, seconds)


def in_turn(subjects: Sequence[Subject], n: int) -> list[Subject]:
    """The order of a round: forth and back, so neighbours stay neighbours, and each of two is first as often."""
    return list(reversed(subjects)) if n % 2 else list(subjects)
