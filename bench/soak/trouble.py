"""What befalls the processes, at times drawn from a seed: nodes are killed or say goodbye, a router restarts.

And the real model leaves the memory again and again, so that it is loaded again and again.
"""

import asyncio
import random
from collections.abc import Callable

import msgspec

from bench.soak.household import MODELS, Household
from bench.soak.outages import Outage, What

VICTIMS: list[tuple[str, What]] = [
    ("left", "killed"),
    ("beside", "killed"),
    ("llama", "killed"),
    ("left", "goodbye"),
    ("llama", "goodbye"),
]  # an attached server has no goodbye
AWAY = (0.0, 10.0)  # seconds that one stays away, at least and at most
CALM = 0.4  # of the time at the end without restarts of the router: growth needs long stretches to be seen
KEPT = 120.0  # seconds after an outage in which a request may still be judged by it


class Often(msgspec.Struct, frozen=True):
    """Mean seconds between two troubles of a kind."""

    nodes: float
    router: float
    unload: float


class Trouble:
    """Makes it. `clock` gives seconds of the run; `tell` is told of each outage when it is over."""

    def __init__(
        self, household: Household, seed: int, clock: Callable[[], float], tell: Callable[[Outage], None]
    ) -> None:
        self._household = household
        # Each kind has dice of its own: which comes first is a matter of time, and what comes must not be.
        self._of_nodes, self._of_router, self._of_model = (random.Random(f"{seed} {n}") for n in range(3))
        self._clock = clock
        self._tell = tell
        self.outages: list[Outage] = []  # those of which requests may still be judged
        self.unloads = 0

    async def befall(self, often: Often, seconds: float, ended: asyncio.Event) -> None:
        """All of it, until `ended`; back when nothing is away any more."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._nodes(often.nodes, ended))
            group.create_task(self._router(often.router, seconds * (1 - CALM), ended))
            group.create_task(self._unload(often.unload, ended))

    async def _nodes(self, every: float, ended: asyncio.Event) -> None:
        while not await _is_set(ended, self._of_nodes.expovariate(1 / every)):
            name, what = self._of_nodes.choice(VICTIMS)
            await self._take_away(Outage(name=name, what=what, began=self._clock()))

    async def _router(self, every: float, until: float, ended: asyncio.Event) -> None:
        """Between a quarter and seven quarters of the mean: stretches of all lengths, and none of no use."""
        while not await _is_set(ended, self._of_router.uniform(0.25, 1.75) * every) and self._clock() < until:
            name = self._of_router.choice(list(self._household.routers))
            await self._take_away(Outage(name=name, what="restarted", began=self._clock()))

    async def _unload(self, every: float, ended: asyncio.Event) -> None:
        while not await _is_set(ended, self._of_model.expovariate(1 / every)):
            self.unloads += await asyncio.to_thread(self._household.unload)

    async def _take_away(self, outage: Outage) -> None:
        """End a process, start it again after a while, and wait until it is as before.

        Raises:
            AssertionError: it does not come back, or did not end as it should.
        """
        self.outages = [o for o in self.outages if o.ended > self._clock() - KEPT]
        self.outages.append(outage)
        process = self._household.members[outage.name]
        status = await asyncio.to_thread(process.kill if outage.what == "killed" else process.stop)
        assert not status, f"{outage.name} ended with status {status}"
        outage.gone = self._clock()
        if outage.what != "restarted":
            await asyncio.sleep(self._of_nodes.uniform(*AWAY))  # noqa: TID251 - somebody has to notice, and start it
        await asyncio.to_thread(process.start)
        await asyncio.to_thread(self._household.come_back, *(MODELS if outage.what == "restarted" else [outage.name]))
        outage.ended = self._clock()
        self._tell(outage)


async def _is_set(event: asyncio.Event, within: float) -> bool:
    """Wait so many seconds, or less if it is set."""
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return False
    return True
