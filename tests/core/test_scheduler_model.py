"""The scheduler over a registry to which anything happens, in any order, under each policy.

What gives a waiting request a chance is followed by what the gateway does then: `on_done`, and after any change in the
registry `on_tick`; after what other replicas tell, only if that made room. Every request is counted from its arrival to
its one end.
"""

from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.core.making import fleet, indexes, make_node, make_scheduler, sample, scan

from llm_router.contract import (
    Address,
    Heartbeat,
    ModelEntry,
    NodeSettings,
    Progress,
    Registration,
    RuntimeFacts,
)
from llm_router.core.affinity import conversation
from llm_router.core.ask import Ask
from llm_router.core.elsewhere import SILENT, Counts, Elsewhere
from llm_router.core.estimates import Estimates
from llm_router.core.health import Signal, State
from llm_router.core.node import Lease, Node
from llm_router.core.registry import Registry
from llm_router.core.scheduler import QUEUED, Decision, Scheduler
from llm_router.errors import NoCapableNodes, QueueFull, QueueTimeout, RouterError, Unavailable

HERE = Address("10.0.0.7", 11435)
QUEUE_SIZE = 3
QUEUE_TIMEOUT = 10.0
TRIAL_AFTER = 5.0

NODES = st.sampled_from("abc")
MODELS = st.sampled_from("mno")
LISTS = st.lists(MODELS, min_size=1, max_size=3, unique=True)
ANY = st.integers(0, 1000)  # which of those that are there
TALK = [b"%d" % i for i in range(4)]
OTHERS = st.sampled_from(["another", "third"])
SIGNALS = st.sampled_from(
    [Signal.GOODBYE, Signal.REQUEST_FAILED, Signal.PROBE_OK, Signal.PROBE_OK, Signal.PROBE_FAILED, Signal.SILENT]
)


class AnyTraffic(RuleBasedStateMachine):
    """Requests of few models, a fleet of few nodes with few slots: everything is scarce."""

    policy: ClassVar[str]
    waits_for_better: ClassVar[bool] = False  # rather than take whatever is free

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.registry = Registry()
        self.scheduler: Scheduler = make_scheduler(self.registry)
        self.elsewhere = Elsewhere(self.registry, "ours", self.scheduler.queued)
        self.told: dict[tuple[str, Node], int] = {}  # what other replicas have in flight
        self.waiting: dict[Ask, float] = {}  # and since when
        self.leases: list[Lease] = []
        self.ended: dict[Ask, str] = {}
        self.seen = 0

    @initialize(nodes=st.lists(st.tuples(LISTS, st.integers(1, 2)), min_size=1, max_size=3))
    def build(self, nodes: list[tuple[list[str], int]]) -> None:
        made = [make_node(name, models, slots=slots) for name, (models, slots) in zip("abc", nodes, strict=False)]
        self.registry = fleet(*made, trial_after=TRIAL_AFTER)
        self.scheduler = make_scheduler(
            self.registry, self.policy, estimates=Estimates(), queue_size=QUEUE_SIZE, queue_timeout=QUEUE_TIMEOUT
        )
        self.elsewhere = Elsewhere(self.registry, "ours", self.scheduler.queued)

    # -- requests

    @rule(model=MODELS, turns=st.integers(0, 3), size=st.integers(0, 40_000))
    def request(self, model: str, turns: int, size: int) -> None:
        self.now += 0.01
        talk = conversation(model, TALK[:turns])
        self.seen += 1
        self.ask(Ask(model, self.now, size=size, conversation=talk))

    @precondition(lambda self: self.leases)
    @rule(which=ANY, seconds=st.floats(0, 20), tokens=st.integers(0, 500))
    def answer(self, which: int, seconds: float, tokens: int) -> None:
        """With what can be learned from it. A trial that succeeded is lifted before its lease is given back."""
        self.now += seconds
        lease = self.leases.pop(which % len(self.leases))
        self.end(lease.ask, "answered")
        if lease.trial:
            self.registry.lift(lease.node.id, lease.model, "a trial succeeded")
        told = sample(
            prompt_tokens=tokens, completion_tokens=tokens, first_byte=seconds / 2, seconds=self.now - lease.since
        )
        self.settle(self.scheduler.on_done(lease, self.now, failed=False, sample=told))
        self.tick(0.0)

    @precondition(lambda self: self.leases)
    @rule(which=ANY, excludes=st.booleans(), suspects=st.booleans())
    def fail(self, which: int, excludes: bool, suspects: bool) -> None:  # noqa: FBT001 - hypothesis gives them
        """Before the first byte, so it goes to another node. A busy node (429) does neither of the two."""
        lease = self.leases.pop(which % len(self.leases))
        if excludes:
            self.registry.exclude(lease.node.id, lease.model, "500", self.now, trial=lease.trial)
        if suspects:
            self.registry.signal(lease.node.id, Signal.REQUEST_FAILED, self.now)
        self.settle(self.scheduler.on_done(lease, self.now, failed=True))
        lease.ask.tried |= {lease.node.id}
        self.ask(lease.ask)
        self.tick(0.0)

    @precondition(lambda self: self.leases)
    @rule(which=ANY)
    def cancel_an_answer(self, which: int) -> None:
        lease = self.leases.pop(which % len(self.leases))
        self.end(lease.ask, "cancelled")
        self.settle(self.scheduler.on_done(lease, self.now, failed=False), freed=lease.node)
        assert self.scheduler.on_done(lease, self.now, failed=False) == []
        self.scheduler.on_cancel(lease.ask)

    @precondition(lambda self: self.waiting)
    @rule(which=ANY)
    def cancel_a_wait(self, which: int) -> None:
        ask = list(self.waiting)[which % len(self.waiting)]
        del self.waiting[ask]
        self.end(ask, "cancelled")
        self.scheduler.on_cancel(ask)

    @rule(seconds=st.floats(0, 6))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.settle(self.scheduler.on_tick(self.now))

    # -- the fleet

    @rule(node_id=NODES, signal=SIGNALS)
    def learn(self, node_id: str, signal: Signal) -> None:
        self.registry.signal(node_id, signal, self.now)
        self.tick(0.0)

    @rule(node_id=NODES, models=LISTS, absent=st.sets(MODELS))
    def list_models(self, node_id: str, models: list[str], absent: set[str]) -> None:
        """Some of them it would have to fetch first."""
        entries = [ModelEntry(model, stored=model not in absent) for model in models]
        self.registry.list_models(node_id, models, self.now, entries)
        self.tick(0.0)

    @rule(
        node_id=NODES,
        cpu=st.sampled_from([5.0, 60.0, 90.0]),
        loaded=st.lists(MODELS, max_size=2, unique=True),
        fetching=st.lists(MODELS, max_size=1),
    )
    def heartbeat(self, node_id: str, cpu: float, loaded: list[str], fetching: list[str]) -> None:
        progress = [Progress("model", model, "downloading") for model in fetching]
        report = Heartbeat(cpu=cpu, memory=30.0, loaded=loaded, progress=progress)
        self.registry.heartbeat(node_id, report, self.now)
        self.tick(0.0)

    @rule(node_id=NODES, model=MODELS)
    def arrive(self, node_id: str, model: str) -> None:
        """A node has fetched a model."""
        if node_id in self.registry.nodes:
            self.registry.arrived(self.registry.nodes[node_id], model)
        self.tick(0.0)

    @rule(node_id=NODES, slots=st.integers(1, 3))
    def register(self, node_id: str, slots: int) -> None:
        message = Registration(node_id, node_id, HERE.port, runtimes=[RuntimeFacts("ollama", slots=slots)])
        self.registry.register(node_id, message, HERE, local=False, now=self.now)
        self.tick(0.0)

    @rule(node_id=NODES)
    def remove(self, node_id: str) -> None:
        self.registry.remove(node_id)
        self.tick(0.0)

    @rule(node_id=NODES, drain=st.booleans())
    def configure(self, node_id: str, drain: bool) -> None:  # noqa: FBT001 - hypothesis gives it
        self.registry.configure(node_id, NodeSettings(drain=drain, changed=self.now))
        self.tick(0.0)

    @rule(node_id=NODES, model=MODELS)
    def lift(self, node_id: str, model: str) -> None:
        self.registry.lift(node_id, model, "by an operator")
        self.tick(0.0)

    # -- other replicas

    @rule(
        replica=OTHERS,
        nodes=st.dictionaries(NODES, st.tuples(*[st.integers(0, 2)] * 4), max_size=2),
        waiting=st.none() | st.dictionaries(MODELS, st.just(1), max_size=2),
    )
    def hear(self, replica: str, nodes: dict[str, tuple[int, int, int, int]], waiting: dict[str, int] | None) -> None:
        """Any number of requests: others may have filled the node, and more than that."""
        if self.elsewhere.heard(replica, Counts(nodes, waiting), self.now):
            self.tick(0.0)
        for node_id, counts in nodes.items():
            if node_id in self.registry.nodes:
                self.told[replica, self.registry.nodes[node_id]] = counts[0]

    @rule(replica=OTHERS)
    def part(self, replica: str) -> None:
        if self.elsewhere.gone(replica, self.now):
            self.tick(0.0)

    @rule(seconds=st.floats(0, 2))
    def count_again(self, seconds: float) -> None:
        """Turns end, and who is silent is not counted any more."""
        self.now += seconds
        if self.elsewhere.tick(self.now):
            self.tick(0.0)

    # -- what follows

    def ask(self, ask: Ask) -> None:
        queue = [a for a in self.waiting if a.model == ask.model]
        decision = self.scheduler.on_request(ask, self.now)
        if isinstance(decision, Lease):
            self.take(ask, decision)
        elif isinstance(decision, RouterError):
            self.refuse(ask, decision, queue)
        else:
            assert decision is QUEUED
            assert self.capable(ask), "nobody is worth waiting for"
            assert len(queue) < QUEUE_SIZE or ask.tried
            self.waiting[ask] = self.now

    def settle(self, decisions: list[Decision], freed: Node | None = None) -> None:
        """Each of those who waited is decided once; a freed slot goes to who has waited longest (requirement D5).

        `freed`: all that happened is that this node has a slot more.
        """
        for ask, decision in decisions:
            since = self.waiting.pop(ask)
            if isinstance(decision, Lease):
                assert freed is None or decision.node is freed or decision.trial
                self.take(ask, decision)
            elif isinstance(decision, QueueTimeout):
                assert self.now - since >= QUEUE_TIMEOUT
                self.end(ask, "timed out")
            else:
                self.refuse(ask, decision, [])
        for ask, decision in decisions:
            if isinstance(decision, Lease) and not decision.trial and not self.waits_for_better:
                passed_over = [a for a in self.waiting if a.arrived < ask.arrived]
                assert not any(decision.node in self.capable(a) for a in passed_over)

    def take(self, ask: Ask, lease: Lease) -> None:
        """A slot that is there, on a node that can."""
        node = lease.node
        assert lease.ask is ask
        assert len(node.leases) <= node.places
        if lease.trial:
            assert node.excluded[ask.model].trial
            assert node.id not in ask.tried
            assert not node.settings.drain
        else:
            assert node in self.capable(ask)
        self.leases.append(lease)

    def refuse(self, ask: Ask, refusal: RouterError, queue: list[Ask]) -> None:
        if isinstance(refusal, QueueFull):
            assert len(queue) >= QUEUE_SIZE
            assert not ask.tried
        else:
            assert not self.capable(ask)
            assert isinstance(refusal, Unavailable) or ask.model not in self.registry
        if isinstance(refusal, NoCapableNodes):
            assert ask.model in self.registry
        self.end(ask, "refused")

    def end(self, ask: Ask, how: str) -> None:
        assert ask not in self.ended, f"{self.ended[ask]} already, and now {how}"
        self.ended[ask] = how

    def capable(self, ask: Ask) -> list[Node]:
        """Who may answer: online, or else suspect; not drained, lists it, has it not excluded, has not failed it.

        Who has it, or fetches it, comes before a suspect; who would have to fetch it, after.
        """
        usable = [n for n in self.registry if not n.settings.drain and n.id not in ask.tried]
        able = [n for n in usable if ask.model in n.models and ask.model not in n.excluded]
        online = [n for n in able if n.state is State.ONLINE]
        holding = [n for n in online if ask.model not in n.absent - n.fetching]
        return holding or [n for n in able if n.state is State.SUSPECT] or online

    # -- what holds at any time

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        """Unless it is for a node that is better, and full."""
        for ask in self.waiting:
            able = self.capable(ask)
            assert able
            if any(n.has_room() for n in able):
                assert self.waits_for_better
                target = self.registry.nodes[ask.target]
                assert target in able
                assert not target.has_room()

    @invariant()
    def nobody_waits_beside_a_trial_that_is_due(self) -> None:
        """Requirement C7."""
        for ask in self.waiting:
            for node in self.registry.excluded.get(ask.model, ()):
                if node.state is State.ONLINE and node.id not in ask.tried and node.has_room():
                    assert not node.excluded[ask.model].is_due(self.now)

    @invariant()
    def claims_are_those_of_who_waits(self) -> None:
        """On both sides: the node knows who, the request knows where."""
        claims = {ask: node.id for node in self.registry for ask in node.claims}
        assert claims == {ask: ask.target for ask in self.waiting if ask.target in self.registry.nodes}
        assert self.waits_for_better or not claims

    @invariant()
    def what_is_counted_is_what_there_is(self) -> None:
        """Nobody is lost, nobody counted twice."""
        assert self.scheduler.waiting == len(self.waiting)
        held = {lease for node in self.registry for lease in node.leases}
        assert held <= set(self.leases)
        gone = {lease for lease in self.leases if self.registry.nodes.get(lease.node.id) is not lease.node}
        assert held | gone == set(self.leases)
        assert len(self.ended) + len(self.waiting) + len(self.leases) == self.seen

    @invariant()
    def the_indexes_are_true(self) -> None:
        """Rule 2 of the registry, whatever the scheduler does to it."""
        assert indexes(self.registry) == scan(self.registry)

    @invariant()
    def places_are_what_the_others_leave(self) -> None:
        """Or fewer, while requests wait there; all of them where nobody is heard of."""
        others = self.elsewhere.replicas
        self.told = {key: count for key, count in self.told.items() if key[0] in others}
        for node in self.registry:
            assert node.elsewhere == sum(self.told.get((name, node), 0) for name in others)
            assert node.places <= node.slots - node.elsewhere
            assert others or node.places == node.slots

    @invariant()
    def one_trial_at_a_time(self) -> None:
        """Requirement C7."""
        for node in self.registry:
            for model in node.excluded:
                trials = [a for a in node.leases if a.model == model and a.trial]
                assert len(trials) <= 1

    def teardown(self) -> None:
        """In the end everything ends, and nothing is in flight any more."""
        nodes = {lease.node for lease in self.leases} | set(self.registry)
        self.count_again(SILENT + 1)
        while self.leases:
            self.cancel_an_answer(0)
        self.tick(QUEUE_TIMEOUT)
        while self.leases:  # those whom the last of the places were given to
            self.cancel_an_answer(0)
        self.tick(QUEUE_TIMEOUT)
        while self.leases:
            self.cancel_an_answer(0)
        assert (self.scheduler.waiting, self.waiting, len(self.ended)) == (0, {}, self.seen)
        assert not any(node.leases for node in nodes)
        assert not any(node.claims for node in self.registry)


def _machine(name: str, **facts: Any) -> Any:  # noqa: ANN401 - a unittest.TestCase that hypothesis makes up
    machine: type[AnyTraffic] = type(name, (AnyTraffic,), {"policy": name} | facts)
    case = machine.TestCase
    case.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
    return case


TestRoundRobin = _machine("round-robin")
TestLeastRequests = _machine("least-requests")
TestMetrics = _machine("metrics")
TestExpectedLatency = _machine("expected-latency", waits_for_better=True)
