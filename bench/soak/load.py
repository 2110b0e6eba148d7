"""Who asks: so many requests per second, whatever comes of them, of all APIs, by clients good and bad."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from itertools import count, cycle

import msgspec
from tests.doubles.rough_clients import PATH, Api, Clients, Ending, Plan
from tests.doubles.rough_upstream import Behaviour
from tests.system.harness import HELLO

from bench.soak.household import HOLDERS, NARROW, STEADY
from bench.soak.outages import Life

CROWD = 500  # requests under way at most, should the machine stand still for a moment
LARGE = 200_000  # bytes of a large prompt
FLOOD = Behaviour(tokens=1000, size=1000)  # an answer larger than what lies between a slow reader and the upstream
AGAIN = 0.2  # seconds until a client that got no connection tries again
LATER = 1.0  # likewise, where it was told that the router is busy: what Retry-After says
PATIENCE = 90.0  # seconds for which it does


class Dice:
    """Draws what comes next; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._ids = (f"soak-{n}" for n in count())

    def pause(self, rate: float) -> float:
        """Seconds until the next one comes, `rate` per second in the mean and independent of each other."""
        return self._random.expovariate(rate)

    def plan(self) -> Plan:
        """Whoever comes."""
        model = self._random.choices([STEADY, NARROW, HELLO], [83, 5, 12])[0]
        size = 100 if model == HELLO else self._random.choices([100, 8_000, LARGE], [80, 19, 1])[0]
        plan = Plan(
            id=next(self._ids),
            api=self._api(),
            model=model,
            stream=self._happens(0.5),
            size=size,
            behaviour=self._behaviour(model),
            fresh=self._happens(0.2),
        )
        if self._happens(0.15):
            return self._leaving(plan)
        return self._resting(plan) if self._happens(0.01) and model == STEADY else plan

    def _happens(self, share: float) -> bool:
        return self._random.random() < share

    def _api(self) -> Api:
        return self._random.choice(list(PATH))

    def _behaviour(self, model: str) -> Behaviour:
        if model == HELLO:
            return Behaviour(tokens=0)  # it says a sentence of its own
        return Behaviour(tokens=self._random.choice([4, 16, 64]), delay=self._random.choice([0, 0, 0.01]))

    def _leaving(self, plan: Plan) -> Plan:
        """It leaves: before the head or the body is complete, while it waits for an answer, or while it reads one."""
        leaves = self._random.choice(["in the head", "in the body", "waiting", "reading"])
        patience = self._random.uniform(0, 0.2)
        return msgspec.structs.replace(plan, leaves=leaves, patience=patience, resets=self._happens(0.5))

    def _resting(self, plan: Plan) -> Plan:
        """It reads nothing for some seconds."""
        return msgspec.structs.replace(plan, behaviour=FLOOD, rests=self._random.uniform(1, 5), fresh=True)


class Asked(msgspec.Struct):
    """A request to a router and its end, by `time.monotonic`; `again`: attempts before, while that restarted."""

    plan: Plan
    router: str
    ending: Ending
    asked: float
    over: float
    again: int = 0

    def life(self, zero: float) -> Life:
        """As far as it counts for what may come of it; the run began at `zero`."""
        plan = self.plan
        return Life(
            kind=self.ending.kind,
            leaves=bool(plan.leaves),
            stream=plan.stream,
            holders=HOLDERS[plan.model],
            asked=self.asked - zero,
            over=self.over - zero,
            router=self.router,
        )


class Company:
    """The clients, of each router as many. `tell` gets every request once it is over.

    `comes_again` says, of an end and a router's name, whether to ask that again instead.
    """

    def __init__(
        self,
        urls: Mapping[str, str],
        seed: int,
        tell: Callable[[Asked], None],
        comes_again: Callable[[Ending, str], bool],
    ) -> None:
        self._clients = {router: Clients(url) for router, url in urls.items()}
        self._turns = cycle(self._clients)
        self._dice = Dice(seed)
        self._tell = tell
        self._comes_again = comes_again
        self._under_way: set[asyncio.Task[None]] = set()
        self.turned_away = 0  # by the CROWD

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return len(self._under_way)

    async def come(self, rate: float, ended: asyncio.Event) -> None:
        """Until `ended`."""
        due = time.monotonic()
        while not ended.is_set():
            due += self._dice.pause(rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))  # noqa: TID251 - load comes at its own times
            if len(self._under_way) < CROWD:
                task = asyncio.create_task(self._ask(self._dice.plan(), next(self._turns)))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            else:
                self.turned_away += 1

    async def leave(self) -> int:
        """Wait for those under way, and hang up. How many never ended."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=PATIENCE)
        left = len(self._under_way)
        for task in self._under_way:
            task.cancel()
        for clients in self._clients.values():
            await clients.close()
        return left

    async def _ask(self, plan: Plan, router: str) -> None:
        began = time.monotonic()
        for again in count():
            asked = time.monotonic()
            ending = await self._clients[router].ask(plan)
            over = time.monotonic()
            if over - began > PATIENCE or not self._comes_again(ending, router):
                self._tell(Asked(plan, router, ending, asked, over, again))
                return
            pause = AGAIN if ending.kind == "lost" else LATER
            await asyncio.sleep(pause)  # noqa: TID251 - as a client library does
