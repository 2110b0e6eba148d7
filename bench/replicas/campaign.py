"""What runs when: each subject is loaded for a short while, round after round, forth and back."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec

from bench.data_plane.campaign import ASKED, WARM_UP
from bench.data_plane.results import Kind
from bench.data_plane.tools import require_programs
from bench.data_plane.upstreams import upstreams
from bench.data_plane.wrk import load
from bench.replicas.results import Sample
from bench.replicas.subjects import Subject, subjects

KINDS: tuple[Kind, ...] = ("unary", "stream")
# Seconds after a load: the router has written its last batch (it does so every second), and has paid for it.
WRITTEN = 1.5


class Plan(msgspec.Struct, frozen=True):
    """`rounds` of `seconds` for each load, by `connections` clients."""

    rounds: int
    seconds: int
    connections: int


class Campaign:
    """One bench. `tell` is given a line about what happens."""

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell

    async def run(self) -> list[Sample]:
        """Measure.

        Raises:
            NotReadyError: something is missing, did not start, or does not answer; maybe in an exception group.
        """
        require_programs()
        async with AsyncExitStack() as stack:
            home = Path(stack.enter_context(TemporaryDirectory(prefix="bench-replicas-")))
            ports = await stack.enter_async_context(upstreams(0, home))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            found = await stack.enter_async_context(subjects(session, ports, home))
            self._tell(f"warm-up of {', '.join(subject.name for subject in found)}")
            for kind in KINDS:
                for subject in found:
                    await self._one(0, kind, subject, WARM_UP)
            return [sample for n in range(1, self._plan.rounds + 1) for sample in await self._round(n, found)]

    async def _round(self, n: int, found: Sequence[Subject]) -> list[Sample]:
        self._tell(f"round {n} of {self._plan.rounds}")
        turn = found if n % 2 else list(reversed(found))
        return [await self._one(n, kind, subject, self._plan.seconds) for kind in KINDS for subject in turn]

    async def _one(self, n: int, kind: Kind, subject: Subject, seconds: int) -> Sample:
        before = _used(subject)
        done = await load(subject.url, ASKED[kind], self._plan.connections, seconds)
        await asyncio.sleep(WRITTEN)  # noqa: TID251 - nobody tells when a ledger has nothing left
        cpu, postgres = (after - was for after, was in zip(_used(subject), before, strict=True))
        return Sample(n, kind, subject.name, done.requests, done.failed, cpu, postgres)


def _used(subject: Subject) -> tuple[float, float]:
    """Seconds of processor time, of a router and of its database's server."""
    return subject.router.cpu(), 0.0 if subject.postgres is None else subject.postgres.cpu()
