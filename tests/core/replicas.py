"""Some replicas of a router in front of the same nodes, in virtual time: what each decides is core/'s own code."""

import heapq
import itertools
from collections.abc import Callable
from functools import partial
from random import Random

from tests.core.making import fleet, make_node, make_scheduler

from llm_router.core.ask import Ask
from llm_router.core.elsewhere import Counts, Elsewhere
from llm_router.core.estimates import Estimates
from llm_router.core.node import Lease
from llm_router.core.scheduler import Decision

EVERY = 0.25  # seconds between two messages of a replica, and between two ticks
DELAY = 0.05  # seconds that a message takes at most
AGAIN = (
    0.1  # seconds after which requests that wait are weighed again, where the policy lets them wait for a better node
)
FOREVER = 1e6


class Replica:
    """One of them, and how many requests it has had served."""

    def __init__(self, name: str, nodes: dict[str, int], policy: str) -> None:
        self.name = name
        self.registry = fleet(*(make_node(node, slots=slots) for node, slots in nodes.items()))
        self.scheduler = make_scheduler(
            self.registry, policy, estimates=Estimates(), queue_size=1_000_000, queue_timeout=FOREVER
        )
        self.elsewhere = Elsewhere(self.registry, name, self.scheduler.queued)
        self.served = 0


class World:
    """Replicas, their nodes (name -> slots), and all that is yet to happen."""

    def __init__(self, random: Random, nodes: dict[str, int], replicas: int, policy: str) -> None:
        self.random = random
        self.now = 0.0
        self.nodes = nodes
        self.replicas = [Replica(f"r{i}", nodes, policy) for i in range(replicas)]
        self.granted: list[tuple[float, Replica, str]] = []
        self._number = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        for replica in self.replicas:
            self._at(random.uniform(0, EVERY), partial(self._beat, replica, whole=True))
            if policy == "expected-latency":
                self._at(random.uniform(0, AGAIN), partial(self._weigh_again, replica))

    @property
    def waiting(self) -> int:
        return sum(replica.scheduler.waiting for replica in self.replicas)

    def ask(self, when: float, replica: Replica, seconds: float) -> None:
        """A request comes then, and is answered `seconds` after it got a place."""
        self._at(when, partial(self._ask, replica, seconds))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()

    # -- what happens

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._number), what))

    def _ask(self, replica: Replica, seconds: float) -> None:
        ask = Ask("m", self.now, size=100, owner=seconds)
        decision = replica.scheduler.on_request(ask, self.now)
        if isinstance(decision, Lease):
            self._serve(replica, [(ask, decision)])

    def _serve(self, replica: Replica, decisions: list[Decision]) -> None:
        for ask, lease in decisions:
            assert isinstance(lease, Lease)
            assert isinstance(ask.owner, float)
            self._check(replica, lease.node.id)
            self.granted.append((self.now, replica, lease.node.id))
            replica.served += 1
            self._at(self.now + ask.owner, partial(self._end, replica, lease))

    def _check(self, replica: Replica, node: str) -> None:
        """No more than fit, but for what others took there so lately that this one cannot know."""
        there = sum(len(r.registry.nodes[node].leases) for r in self.replicas)
        lately = itertools.takewhile(lambda g: g[0] >= self.now - EVERY - DELAY, reversed(self.granted))
        unheard = sum(who is not replica and where == node for _, who, where in lately)
        assert there <= self.nodes[node] + unheard

    def _end(self, replica: Replica, lease: Lease) -> None:
        self._serve(replica, replica.scheduler.on_done(lease, self.now, failed=False))

    def _beat(self, replica: Replica, *, whole: bool = False) -> None:
        """Four times a second: look at the clock, and tell the others."""
        if replica.elsewhere.tick(self.now):
            self._serve(replica, replica.scheduler.on_tick(self.now))
        for news in replica.elsewhere.own(whole=whole):
            for other in self.replicas:
                self._at(self.now + self.random.uniform(0, DELAY), partial(self._hear, other, replica.name, news))
        self._at(self.now + EVERY, partial(self._beat, replica))

    def _hear(self, replica: Replica, sender: str, news: Counts) -> None:
        if replica.elsewhere.heard(sender, news, self.now):
            self._serve(replica, replica.scheduler.on_tick(self.now))

    def _weigh_again(self, replica: Replica) -> None:
        self._serve(replica, replica.scheduler.on_tick(self.now))
        self._at(self.now + AGAIN, partial(self._weigh_again, replica))
