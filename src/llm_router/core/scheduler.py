"""Who gets a request, and who waits. One tree of decisions; the numbers stand in the code.

    1  no node has ever come                             -> NoNodes           503
    2  every node is offline                             -> AllNodesOffline   503
    3  nobody lists the model                            -> ModelNotFound     404
    4  who can answer: online, not drained, lists the model, has it not excluded, has not failed this request; at most
       DRAWN of them
       4a  an exclusion is due for a trial, and the request may fail there (requirement C7) -> Lease, as a trial
       4b  none: the suspects among them, likewise
       4c  none: those that would have to fetch the model first; all who come after wait for the one that is chosen
       4d  none                                          -> NoCapableNodes    503
    5  the policy chooses one with a free slot           -> Lease
    6  it chose none: as many wait as may                -> QueueFull         429
    7                                                    -> QUEUED, in the order of arrival

A place that comes free goes to whoever has waited longest among those who may and want to use it; who has waited
`queue_timeout` leaves with QueueTimeout (504). In the code 4 stands first, since it is what nearly every request asks.
A lease counts as in flight until `on_done`, once (requirement B7).

Rule 1: it never waits, and knows no clock: each event returns the decisions that follow from it.
Rule 2: no lost wake-up. Whatever gives a waiting request a chance (a lease given back, any change in the registry, time
        that passes) is an event here: `on_done`, `on_tick`.
"""

import math
from bisect import insort
from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter

import msgspec

from llm_router.core.affinity import Affinity
from llm_router.core.ask import Ask
from llm_router.core.estimates import Estimates
from llm_router.core.health import State
from llm_router.core.node import LATEST, Lease, Node
from llm_router.core.policies import Policy
from llm_router.core.rates import Sample
from llm_router.core.registry import IN_ROTATION, Registry
from llm_router.errors import (
    AllNodesOffline,
    ModelNotFound,
    NoCapableNodes,
    NoNodes,
    QueueFull,
    QueueTimeout,
    RouterError,
)

DRAWN = 32  # candidates that are weighed (design.md §5): enough to find a good one, few enough to be quick
ASKED = 64  # waiting requests of one model that are offered a place before it is left for the next event
STRIDE = (5**0.5 - 1) / 2  # of the nodes, from one draw to the next; the golden ratio falls in step with nothing
LEARN_EVERY = 0.05  # seconds between two requests that are learned from: a fast node tells as much with every tenth
LONGEST_RETRY = 60  # seconds that a refused client is told to wait at most
NAMED = 3  # drained nodes that a refusal names: enough to know where to look


class Queued:
    """The decision that a request waits."""


QUEUED = Queued()
Decision = tuple[Ask, Lease | RouterError]


class Preview(msgspec.Struct, frozen=True):
    """What would be decided. `costs` are the policy's, one for each candidate; `target`: whom it would wait for."""

    candidates: Sequence[Node]
    costs: list[dict[str, float]]
    decision: Node | RouterError | Queued
    target: Node | None = None
    is_trial: bool = False


class Scheduler:
    """Admits requests to nodes."""

    def __init__(
        self,
        registry: Registry,
        policy: Policy,
        estimates: Estimates,
        *,
        queue_size: int = 100,
        queue_timeout: float = 60.0,
    ) -> None:
        """`queue_size`: requests that may wait for one model; `queue_timeout`: seconds that one may wait."""
        self._registry = registry
        self._policy = policy
        self._estimates = estimates
        self._affinity = Affinity()
        self._queue_size = queue_size
        self._queue_timeout = queue_timeout
        self._queues: dict[str, list[Ask]] = {}  # by model, in the order of arrival; none is empty
        self._turn = 0

    @property
    def waiting(self) -> int:
        """How many requests wait. While there are any, `on_tick` is to be called often."""
        return sum(map(len, self._queues.values()))

    def queued(self) -> dict[str, int]:
        """How many requests wait for each model; none that nobody waits for."""
        return {model: len(queue) for model, queue in self._queues.items()}

    # -- events

    def on_request(self, ask: Ask, now: float) -> Lease | Queued | RouterError:
        """A request arrived, or came back because its node failed: `tried` names those that did."""
        if ask.conversation:
            self._recall(ask, now)
        decision = self._place(ask, now)
        return self._enqueue(ask, now) if decision is None else decision

    def on_done(self, lease: Lease, now: float, *, failed: bool, sample: Sample | None = None) -> list[Decision]:
        """The request ended, well or badly; `sample` is what can be learned from it. A second call changes nothing."""
        if not lease.open:
            return []
        lease.open = False
        node = lease.node
        node.leases.discard(lease)
        node.touch(lease.ask.model, now)
        if failed:
            node.failed += 1
        else:
            node.done += 1
            seconds = now - lease.since
            node.latency = node.latency + (seconds - node.latency) * LATEST if node.latency else seconds
        if lease.trial:
            exclusion = node.excluded.get(lease.model)
            if exclusion is not None and exclusion.since <= lease.since:  # not one from after a restart
                exclusion.trial = False
        if sample is not None:
            self._learn(lease, sample, now)
        if not self._queues:
            return []
        return self._offer([model for model in self._queues if model in node.models], now, node)

    def on_cancel(self, ask: Ask) -> None:
        """The client went away. One that does not wait is left alone."""
        queue = self._queues.get(ask.model)
        if queue is not None and ask in queue:
            self._dequeue(ask)

    def on_tick(self, now: float) -> list[Decision]:
        """Time passed, or something changed in the registry."""
        for model, queue in self._queues.items():
            if self._registry.fetcher(model) is not None:  # how long for, is not a matter of queues
                for ask in queue:
                    ask.fetching = now
        late = [a for q in self._queues.values() for a in q if self._is_late(a, now)]
        for ask in late:
            self._dequeue(ask)
        refused: list[Decision] = [(ask, self._too_late(ask)) for ask in late]
        return refused + self._offer(self._queues, now)

    def _is_late(self, ask: Ask, now: float) -> bool:
        return now - max(ask.queued, ask.fetching) >= self._queue_timeout

    def preview(self, ask: Ask, now: float) -> Preview:
        """What `on_request` would decide now; nothing changes."""
        if ask.conversation:
            self._recall(ask, now)
        trial = self._on_trial(ask, now)
        candidates = self._candidates(ask)
        if not candidates and trial is None:
            return Preview((), [], self._refusal(ask, now))
        costs = self._policy.costs(ask, candidates, now)
        decision: Node | RouterError | Queued | None = trial or self._policy.choose(ask, candidates, now)
        target = self._registry.nodes.get(ask.target)
        self._release(ask)
        waiting = len(self._queues.get(ask.model, ()))
        if decision is None:
            decision = self._full(ask, waiting) if waiting >= self._queue_size else QUEUED
        return Preview(candidates, costs, decision, target=target, is_trial=trial is not None)

    # -- 4 and 5: a place

    def _recall(self, ask: Ask, now: float) -> None:
        ask.holder, ask.held = self._affinity.find(ask.conversation, now)

    def _place(self, ask: Ask, now: float) -> Lease | RouterError | None:
        """A place, or why there can be none; None: not now."""
        if ask.target:
            self._release(ask)
        registry, model = self._registry, ask.model
        if model in registry.excluded:  # 4a
            node = self._on_trial(ask, now)
            if node is not None:
                node.excluded[model].trial = True
                return self._lease(ask, node, now, trial=True)
        candidates: Sequence[Node] | None = registry.online.get(model)
        if not candidates or ask.tried or len(candidates) > DRAWN:
            candidates = self._candidates(ask)
            if not candidates:
                return self._refusal(ask, now)
        node = self._policy.choose(ask, candidates, now)  # 5
        return None if node is None else self._lease(ask, node, now)

    def _candidates(self, ask: Ask) -> Sequence[Node]:
        """Step 4 without the trials."""
        registry, model = self._registry, ask.model
        nodes = registry.online.get(model, ())
        if nodes and ask.tried:
            nodes = [n for n in nodes if n.id not in ask.tried]
        if not nodes:  # 4b
            nodes = [n for n in registry.suspects.get(model, ()) if n.id not in ask.tried]
        if not nodes:  # 4c
            nodes = [n for n in registry.offered.get(model, ()) if n.id not in ask.tried]
        return nodes if len(nodes) <= DRAWN else self._drawn(ask, nodes)

    def _drawn(self, ask: Ask, nodes: Sequence[Node]) -> Sequence[Node]:
        """At most DRAWN: who holds the conversation, who has the model in memory, and some of all, by turns.

        If none of these has a free slot, those that have: nobody waits while there is one.
        """
        registry = self._registry
        holder = registry.nodes.get(ask.holder)
        likely = [holder] if holder is not None else []
        likely += _in_turn(registry.warm.get(ask.model, ()), self._turn, DRAWN // 2)
        usable = (n for n in likely if self._may(ask, n))
        drawn = list(dict.fromkeys([*usable, *_in_turn(nodes, self._turn, DRAWN // 2)]))
        if not any(n.has_room() for n in drawn):  # written out below, since it may look at a thousand
            drawn = list(islice((n for n in nodes if len(n.leases) < n.places), DRAWN)) or drawn
        return drawn

    def _may(self, ask: Ask, node: Node) -> bool:
        """Whether it is one of those of step 4."""
        model = ask.model
        listed = node.state is State.ONLINE and model in node.models and model not in node.excluded
        return listed and not node.settings.drain and node.id not in ask.tried

    def _on_trial(self, ask: Ask, now: float) -> Node | None:
        """A node on which the model failed a while ago. It may fail again: then the request moves on, if it can."""
        for node in self._registry.excluded.get(ask.model, ()):
            if node.state is State.SUSPECT or node.id in ask.tried or not node.has_room():
                continue
            if node.excluded[ask.model].is_due(now):
                return node
        return None

    def _lease(self, ask: Ask, node: Node, now: float, *, trial: bool = False) -> Lease:
        model = ask.model
        self._turn = node.last_chosen = self._turn + 1
        lease = Lease(node, ask, now, trial=trial, cold=model not in node.warm)
        node.leases.add(lease)
        if ask.looks:
            return lease
        if model in node.absent:
            lease.fetches = True
            self._registry.fetch(node, model)
        if lease.cold:
            load = self._estimates.of(node, self._estimates.model(model)).load
            self._registry.warm_up(node, model, now + load)
        node.touch(model, now)
        return lease

    def _learn(self, lease: Lease, sample: Sample, now: float) -> None:
        """It was answered, so the model is in memory there, and the conversation too."""
        ask, node = lease.ask, lease.node
        if (
            node.warm.get(ask.model) != 0.0
            and node.state is not State.OFFLINE
            and self._registry.nodes.get(node.id) is node
        ):
            self._registry.warm_up(node, ask.model, 0.0)
        rates = node.rates.get(ask.model)
        if rates is None or lease.cold or not 0.0 < now - rates.learned < LEARN_EVERY:
            self._estimates.learn(lease, sample).learned = now
        if ask.conversation:
            self._affinity.remember(ask.conversation, node.id, now)

    # -- 6 and 7: the queue

    def _enqueue(self, ask: Ask, now: float) -> Queued | RouterError:
        queue = self._queues.get(ask.model, [])
        if len(queue) >= self._queue_size and not ask.tried:  # one that was admitted once is not turned away (B5)
            self._release(ask)
            return self._full(ask, len(queue))
        ask.queued = now
        insort(self._queues.setdefault(ask.model, queue), ask, key=_arrived)
        return QUEUED

    def _dequeue(self, ask: Ask) -> None:
        self._release(ask)
        queue = self._queues[ask.model]
        queue.remove(ask)
        if not queue:
            del self._queues[ask.model]

    def _release(self, ask: Ask) -> None:
        """It claims no node any more."""
        if ask.target:
            node = self._registry.nodes.get(ask.target)
            if node is not None:
                node.claims.discard(ask)
            ask.target = ""

    def _offer(self, models: Iterable[str], now: float, node: Node | None = None) -> list[Decision]:
        """Offer what is free to those who wait for these models; if only `node` came free, until it is full again."""
        decisions: list[Decision] = []
        waiting = merge(*(self._queues[m][:ASKED] for m in models), key=_arrived)
        for ask in waiting:
            if node is not None and not node.has_room():
                break
            decision = self._place(ask, now)
            if decision is not None:
                self._dequeue(ask)
                decisions.append((ask, decision))
        return decisions

    # -- refusals

    def _refusal(self, ask: Ask, now: float) -> RouterError:
        registry, model = self._registry, ask.model
        if not registry.nodes:  # 1
            return NoNodes("no available nodes: start one with `llm-router node --router URL`")
        if all(node.state is State.OFFLINE for node in registry):  # 2
            return AllNodesOffline("all nodes are offline")
        if model not in registry:  # 3
            return ModelNotFound(f"model '{model}' not found: no node lists it")
        excluded = registry.excluded.get(model)
        if excluded is None:  # 4d
            return NoCapableNodes(f"no online node can run model '{model}' now{self._drained(model)}")
        node = min(excluded, key=lambda n: n.excluded[model].until)
        seconds = math.ceil(max(1.0, node.excluded[model].until - now))
        return NoCapableNodes(
            f"model '{model}' failed on every online node that has it "
            f"(node '{node.name}': {node.excluded[model].reason}); it is tried again "
            f"in {seconds} s, or when an operator lifts the exclusion{self._drained(model)}",
            retry_after=seconds,
        )

    def _drained(self, model: str) -> str:
        """Who could run it, but for an operator's word."""
        drained = [n for n in self._registry if n.settings.drain and n.state in IN_ROTATION and model in n.models]
        names = [f"'{n.name}'" for n in drained]
        shown = ", ".join(names[:NAMED])
        return f"; drained by an operator: {shown}{' and others' if len(names) > NAMED else ''}" if names else ""

    def _full(self, ask: Ask, waiting: int) -> RouterError:
        seconds = self._again_in(ask.model, waiting)
        return QueueFull(
            f"every node that can run model '{ask.model}' is busy, and {waiting} requests wait already: "
            f"ask again in {seconds} s",
            retry_after=seconds,
        )

    def _too_late(self, ask: Ask) -> RouterError:
        seconds = self._again_in(ask.model, len(self._queues.get(ask.model, ())))
        return QueueTimeout(
            f"no node that can run model '{ask.model}' came free within {self._queue_timeout:g} s: "
            f"ask again in {seconds} s",
            retry_after=seconds,
        )

    def _again_in(self, name: str, waiting: int) -> int:
        """Seconds until one more request than wait already is likely to find a place."""
        places = sum(max(0, n.places) for n in self._registry.online.get(name, ())) or 1
        seconds = math.ceil((waiting + 1) * self._estimates.model(name).seconds / places)
        return min(max(1, seconds), LONGEST_RETRY)


def _in_turn(nodes: Sequence[Node], turn: int, count: int) -> Sequence[Node]:
    """`count` of them, at each turn others."""
    if len(nodes) <= count:
        return nodes
    start = int(turn * STRIDE % 1 * len(nodes))
    return [*nodes[start : start + count], *nodes[: max(0, start + count - len(nodes))]]


_arrived = attrgetter("arrived")
