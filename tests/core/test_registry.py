"""The nodes, and which of them can run what."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llm_router.contract import Address, Gpu, Heartbeat, Registration, RuntimeFacts
from llm_router.core.health import Signal, State
from llm_router.core.registry import DEFAULT_SLOTS, Node, Registry

HERE = Address("10.0.0.7", 11435)


def hello(node_id: str = "a", **facts: Any) -> Registration:  # noqa: ANN401 - any field of the message
    return Registration(node_id, f"{node_id}'s machine", HERE.port, **facts)


def online(registry: Registry, node_id: str = "a", models: tuple[str, ...] = ("m",), now: float = 0.0) -> Node:
    registry.register(node_id, hello(node_id), HERE, local=False, now=now)
    registry.list_models(node_id, models, now)
    return registry.nodes[node_id]


def test_a_new_agent_is_in_use_once_its_models_are_known() -> None:
    """Requirement A4: registered, then pulled, then online."""
    registry = Registry()
    changes = registry.register("a", hello(), HERE, local=True, now=1.0)
    assert [c.event for c in changes] == ["node.registered"]
    assert registry.nodes["a"].state is State.REGISTERING
    assert not registry.available()
    changes = registry.list_models("a", ("m", "n", "m"), 2.0)
    assert [c.event for c in changes] == ["node.models_changed", "node.online"]
    assert {model: [n.id for n in nodes] for model, nodes in registry.available().items()} == {"m": ["a"], "n": ["a"]}


def test_a_registration_is_kept_in_full() -> None:
    """Requirement A3: name, address, runtimes with version, OS, GPUs are there to be seen."""
    registry = Registry()
    runtimes = [RuntimeFacts("ollama", "0.12", 2), RuntimeFacts("llamacpp", "b1", 3)]
    registry.register("a", hello(os="Linux", runtimes=runtimes, gpus=[Gpu("H200")]), HERE, local=True, now=1.0)
    view = registry.nodes["a"].view()
    assert (view.name, view.url, view.os, view.local) == ("a's machine", "http://10.0.0.7:11435", "Linux", True)
    assert (view.slots, [r.version for r in view.runtimes], [g.name for g in view.gpus]) == (
        5,
        ["0.12", "b1"],
        ["H200"],
    )


def test_slots_are_assumed_where_nobody_tells() -> None:
    """design.md §5: unknown means DEFAULT_SLOTS."""
    assert online(Registry()).slots == DEFAULT_SLOTS


def test_a_node_that_registers_again_is_the_same_node() -> None:
    """Requirement A8: its identity and counts stay; where it is and what it is called are as it says now."""
    registry = Registry()
    before = online(registry)
    before.done = 7
    moved = Address("10.0.0.8", 9)
    registry.register("a", hello(), moved, local=False, now=5.0)
    assert registry.nodes["a"] is before
    assert (before.done, before.address, before.state) == (7, moved, State.REGISTERING)
    assert "m" not in registry.available()
    assert "m" in registry


def test_going_offline_drops_the_models_and_coming_back_pulls_them() -> None:
    """Requirements C8 and C9."""
    registry = Registry()
    online(registry)
    registry.signal("a", Signal.GOODBYE, 1.0)
    assert not registry.available()
    registry.heartbeat("a", Heartbeat(), 2.0)
    assert registry.nodes["a"].state is State.REGISTERING
    registry.list_models("a", ("n",), 3.0)
    assert list(registry.available()) == ["n"]
    assert "m" not in registry


def test_silence_ends_in_offline_for_agents_only() -> None:
    """Requirement A5: more than `silence` seconds without a heartbeat; attached servers send none and are probed."""
    registry = Registry(silence=20.0)
    online(registry, "a", now=100.0)
    attached = Node("s", "s", "ollama", HERE, dialects=frozenset())
    registry.add(attached, 100.0)
    registry.list_models("s", ("m",), 100.0)
    assert registry.tick(120.0) == []
    (change,) = registry.tick(120.1)
    assert (change.event, change.node_id) == ("node.offline", "a")
    assert attached.state is State.ONLINE
    assert registry.tick(500.0) == []


def test_a_heartbeat_breaks_the_silence_and_is_shown() -> None:
    """Requirement D1: what a node reports can be seen."""
    registry = Registry(silence=20.0)
    node = online(registry)
    registry.heartbeat("a", Heartbeat(cpu=12.5, memory=40.0, loaded=["m"], models_version=3), 15.0)
    assert registry.tick(34.0) == []
    assert (node.view().cpu, node.view().memory, node.view().loaded) == (12.5, 40.0, ["m"])
    assert node.models_version == 3


def test_a_registration_sets_the_version_of_the_models() -> None:
    """The first heartbeat of the same version asks for no second pull."""
    registry = Registry()
    registry.register("a", hello(models_version=9), HERE, local=False, now=0.0)
    assert registry.nodes["a"].models_version == 9


def test_changes_say_why() -> None:
    """Requirement F4: an event can be understood by itself."""
    registry = Registry()
    online(registry)
    (change,) = registry.signal("a", Signal.REQUEST_FAILED, 1.0, "connection refused")
    assert (change.event, change.name) == ("node.suspect", "a's machine")
    assert "connection refused" in change.detail


def test_a_removed_node_is_forgotten() -> None:
    """Its models, too; removing or signalling what is not there does nothing."""
    registry = Registry()
    online(registry)
    assert [c.event for c in registry.remove("a")] == ["node.removed"]
    assert "m" not in registry
    assert registry.remove("a") == []
    assert registry.signal("a", Signal.HEARTBEAT, 1.0) == []
    assert registry.heartbeat("a", Heartbeat(), 1.0) == []
    assert registry.list_models("a", ("m",), 1.0) == []


def test_one_id_is_one_node() -> None:
    """Adding a known id is a mistake of the caller's."""
    registry = Registry()
    online(registry)
    with pytest.raises(ValueError, match="known already"):
        registry.add(Node("a", "a", "agent", HERE, dialects=frozenset()), 0.0)


IDS = st.sampled_from("abc")
MODELS = st.lists(st.sampled_from("mnop"), max_size=4)


class AnyStory(RuleBasedStateMachine):
    """Whatever happens in whatever order, the indexes say what a scan of all nodes would."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(silence=3.0)
        self.now = 0.0

    @rule(node_id=IDS)
    def register(self, node_id: str) -> None:
        self.registry.register(node_id, hello(node_id), HERE, local=False, now=self.now)

    @rule(node_id=IDS, models=MODELS, state=st.sampled_from(State))
    def restore(self, node_id: str, models: list[str], state: State) -> None:
        if node_id not in self.registry.nodes:
            unique = dict.fromkeys(models)
            node = Node(node_id, node_id, "ollama", HERE, dialects=frozenset(), state=state, models=unique)
            self.registry.add(node, self.now)

    @rule(node_id=IDS, models=MODELS)
    def list_models(self, node_id: str, models: list[str]) -> None:
        self.registry.list_models(node_id, models, self.now)

    @rule(node_id=IDS, signal=st.sampled_from(Signal))
    def signal(self, node_id: str, signal: Signal) -> None:
        self.registry.signal(node_id, signal, self.now)

    @rule(node_id=IDS)
    def heartbeat(self, node_id: str) -> None:
        self.registry.heartbeat(node_id, Heartbeat(), self.now)

    @rule(node_id=IDS)
    def remove(self, node_id: str) -> None:
        self.registry.remove(node_id)

    @rule(seconds=st.floats(0.0, 5.0))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.registry.tick(self.now)

    def scan(self, *states: State) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for node in self.registry:
            for model in node.models if node.state in states else ():
                found.setdefault(model, set()).add(node.id)
        return found

    @invariant()
    def indexes_are_true(self) -> None:
        registry = self.registry
        assert {m: {n.id for n in nodes} for m, nodes in registry.online.items()} == self.scan(State.ONLINE)
        assert {m: {n.id for n in nodes} for m, nodes in registry.suspects.items()} == self.scan(State.SUSPECT)
        assert list(registry.available()) == sorted(self.scan(State.ONLINE, State.SUSPECT))
        assert {m for m in "mnop" if m in registry} == set(self.scan(*State))
        assert all(len(nodes) == len({n.id for n in nodes}) for nodes in registry.online.values())


TestAnyStory = AnyStory.TestCase  # Rule 2 of the registry
TestAnyStory.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
