"""Who runs when: every router at every rate, each time with new machines.

Routers at the same rate run side by side, so that what disturbs this computer disturbs them alike.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec

from bench.fleet.fleet import FLEETS
from bench.fleet.player import Player
from bench.fleet.results import Run, summarize
from bench.fleet.routers import Urls, attach, look, machines, reset, router, wait_for_models
from bench.fleet.trace import Conversation, draw
from bench.processes import Program


class Plan(msgspec.Struct, frozen=True):
    """What is to be measured. `others`: routers of other people, `{name: url}`; see `ports_of` for their machines."""

    policies: Sequence[str]
    others: Mapping[str, str]
    rates: Sequence[float]
    requests: int
    scale: float
    seed: int
    fleet: str
    jobs: int
    first_port: int

    def ports_of(self, other: str) -> int:
        """The first port of the machines that are for this router; the next ones follow."""
        return self.first_port + list(self.others).index(other) * len(FLEETS[self.fleet])


class Stage(msgspec.Struct, frozen=True):
    """A router and its machines, ready to be played against."""

    name: str
    router: str
    machines: Urls
    programs: dict[str, Program]


class Campaign:
    """One bench. `tell` is given a line about what happens."""

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._rented: dict[str, tuple[Program, Urls]] = {}  # machines that others' routers point at, all the time

    async def run(self) -> list[Run]:
        """Measure.

        Raises:
            NotReadyError: a router or its machines did not start; in an exception group.
        """
        async with AsyncExitStack() as stack:
            self._directory = Path(stack.enter_context(TemporaryDirectory(prefix="bench-fleet-")))
            self._session = await stack.enter_async_context(_session())
            for name in self._plan.others:
                await self._rent(stack, name)
            return [run for rate in self._plan.rates for run in await self._at(rate)]

    async def _rent(self, stack: AsyncExitStack, name: str) -> None:
        plan = self._plan
        log = self._directory / f"{len(self._rented)}.log"
        program, urls = await stack.enter_async_context(machines(plan.fleet, plan.scale, plan.ports_of(name), log))
        self._rented[name] = program, urls
        self._tell(f"{name}: machines at {' '.join(urls.values())}; waiting for {plan.others[name]} to offer them")
        await wait_for_models(self._session, plan.others[name])

    async def _at(self, rate: float) -> list[Run]:
        trace = draw(rate, self._plan.requests, self._plan.seed)
        return [run for names in self._batches() for run in await self._side_by_side(names, rate, trace)]

    def _batches(self) -> Iterator[list[str]]:
        names = [*self._plan.policies, *self._plan.others]
        return (names[i : i + self._plan.jobs] for i in range(0, len(names), self._plan.jobs))

    async def _side_by_side(self, names: list[str], rate: float, trace: list[Conversation]) -> list[Run]:
        self._tell(
            f"{rate:g} requests/s: {', '.join(names)}; at least {self._plan.requests / rate / self._plan.scale:.0f} s"
        )
        ready = asyncio.Barrier(len(names))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(name, rate, trace, ready)) for name in names]
        return [task.result() for task in tasks]

    async def _one(self, name: str, rate: float, trace: list[Conversation], ready: asyncio.Barrier) -> Run:
        async with self._stage(name) as stage:
            await ready.wait()
            began, used = time.monotonic(), _cpu(stage)
            samples = await Player(self._session, stage.router, self._plan.scale).play(trace)
            wall = time.monotonic() - began
            cpu = {program: (seconds - used[program]) / wall for program, seconds in _cpu(stage).items()}
            return summarize(name, rate, samples, await look(self._session, stage.machines), cpu)

    @asynccontextmanager
    async def _stage(self, name: str) -> AsyncIterator[Stage]:
        plan = self._plan
        if name in self._rented:
            program, urls = self._rented[name]
            await reset(self._session, urls)
            yield Stage(name, plan.others[name], urls, {"machines": program})
            return
        with TemporaryDirectory(dir=self._directory) as home:
            async with (
                machines(plan.fleet, plan.scale, 0, Path(home) / "machines.log") as (program, urls),
                router(name, plan.scale, Path(home)) as (ours, url),
            ):
                await attach(self._session, url, plan.fleet, urls)
                yield Stage(name, url, urls, {"machines": program, "router": ours})


def _cpu(stage: Stage) -> dict[str, float]:
    return {name: program.cpu() for name, program in stage.programs.items()}


def _session() -> aiohttp.ClientSession:
    """As many connections as there are questions."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
