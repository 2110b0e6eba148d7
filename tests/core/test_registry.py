"""The nodes, and which of them can run what."""

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.core.making import fleet, indexes, occupy, scan

from llm_router.contract import Address, Gpu, Heartbeat, ModelEntry, NodeSettings, Registration, RuntimeFacts
from llm_router.core.health import Signal, State
from llm_router.core.node import DEFAULT_SLOTS, Node
from llm_router.core.registry import Introduction, Registry

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


def test_a_node_that_waits_for_approval_is_of_no_use_yet() -> None:
    """Requirement A10: it is seen, whatever it says or does changes nothing, until somebody approves it."""
    registry = Registry(silence=20.0)
    changes = registry.register("a", hello(), HERE, local=False, now=1.0, pending=True)
    assert [c.event for c in changes] == ["node.pending"]
    assert registry.heartbeat("a", Heartbeat(models_version=9, loaded=["m"], slots=50), 5.0) == []
    assert registry.signal("a", Signal.GOODBYE, 6.0) == registry.tick(100.0) == []
    assert [c.event for c in registry.register("a", hello(), HERE, local=False, now=101.0)] == ["node.pending"]
    node = registry.nodes["a"]
    assert (node.state, node.last_seen, list(node.warm), node.slots) == (State.PENDING, 101.0, [], DEFAULT_SLOTS)
    assert [c.event for c in registry.signal("a", Signal.APPROVED, 102.0)] == ["node.registering"]
    registry.list_models("a", ("m",), 103.0)
    assert list(registry.available()) == ["m"]


def test_who_waits_for_longest_unheard_is_first() -> None:
    """Requirement A10: so that it is the first to be forgotten when too many wait; who may join is none of them."""
    registry = Registry()
    for node_id, now in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        registry.register(node_id, hello(node_id), HERE, local=False, now=now, pending=node_id != "c")
    registry.heartbeat("a", Heartbeat(), 4.0)
    assert [node.id for node in registry.pending()] == ["b", "a"]


def test_a_nodes_token_is_shown_to_it_alone() -> None:
    """Requirement A10: it is in the line that is sent there, and in no view; without one there is no line."""
    registry = Registry()
    registry.register("a", hello(access="hush"), HERE, local=False, now=1.0)
    assert registry.nodes["a"].access == b"authorization: Bearer hush\r\n"
    assert "hush" not in repr(registry.nodes["a"].view())
    registry.register("a", hello(), HERE, local=False, now=2.0)
    assert registry.nodes["a"].access == b""


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


def test_a_registration_with_another_replica_is_the_same_registration() -> None:
    """Requirement E1: the same facts from the table make the same node, and say the same of it."""
    here, there = Registry(), Registry()
    message = hello(
        os="Linux",
        version="1.2",
        backend="cuda",
        models_version=3,
        access="hush",
        runtimes=[RuntimeFacts("ollama", "0.12", 2)],
        settings=NodeSettings(name="GPU box", changed=5.0),
    )
    facts = Introduction(
        own_name=message.machine_name,
        address=HERE,
        local=True,
        runtimes=tuple(message.runtimes),
        os=message.os,
        version=message.version,
        backend=message.backend,
        models_version=message.models_version,
        access=message.access,
        settings=message.settings,
    )
    assert there.reintroduce("a", facts, 9.0) == []
    for registry in (here, there):
        online(registry)
        registry.exclude("a", "m", "500", 1.0)
    assert here.register("a", message, HERE, local=True, now=9.0) == there.reintroduce("a", facts, 9.0)
    assert here.nodes["a"].view() == there.nodes["a"].view()
    assert here.nodes["a"].access == there.nodes["a"].access
    assert available(there) == {}


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


def test_a_heartbeat_may_change_the_slots() -> None:
    """Requirement D1: how many requests it runs at once is reported; one that does not say has as many as before."""
    registry = Registry()
    node = online(registry)
    for reported, slots in ((2, 2), (0, 2), (6, 6)):
        registry.heartbeat("a", Heartbeat(slots=reported), 1.0)
        assert node.slots == slots


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


def available(registry: Registry) -> dict[str, list[str]]:
    return {model: [n.id for n in nodes] for model, nodes in registry.available().items()}


def test_a_model_is_excluded_on_one_node_and_for_that_model_alone() -> None:
    """Requirement C6: the node stays in use for its other models, the model on other nodes."""
    registry = fleet("a", "b", models=("m", "n"))
    (change,) = registry.exclude("a", "m", "it answered 500", 10.0)
    assert (change.event, change.node_id) == ("node.model_excluded", "a")
    assert "m: it answered 500" in change.detail
    assert available(registry) == {"m": ["b"], "n": ["a", "b"]}
    assert [n.id for n in registry.excluded["m"]] == ["a"]


def test_an_exclusion_can_be_seen() -> None:
    """Requirements C6 and F1: which model, why, since when, and until when."""
    registry = fleet("a")
    registry.exclude("a", "m", "it answered 500", 10.0)
    view = registry.nodes["a"].view()
    (seen,) = view.exclusions
    assert view.excluded == ["m"]
    assert (seen.model, seen.reason, seen.since, seen.until) == ("m", "it answered 500", 10.0, 40.0)


def test_a_second_failure_of_what_was_under_way_changes_nothing() -> None:
    """Four requests break at once: that is one exclusion, and it does not grow."""
    registry = fleet("a")
    registry.exclude("a", "m", "first", 10.0)
    assert registry.exclude("a", "m", "second", 11.0) == []
    assert (registry.nodes["a"].excluded["m"].reason, registry.nodes["a"].excluded["m"].until) == ("first", 40.0)


def test_each_failed_trial_doubles_the_time_to_the_next_up_to_ten_minutes() -> None:
    """Requirement C7: 30 s, doubling to 10 min; each is said."""
    registry, delays = fleet("a"), []
    registry.exclude("a", "m", "500", 0.0)
    for _ in range(6):
        (change,) = registry.exclude("a", "m", "502", 100.0, trial=True)
        delays.append(registry.nodes["a"].excluded["m"].until - 100.0)
        assert change.event == "node.model_excluded"
    assert delays == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0]


def test_the_time_to_the_first_trial_is_a_setting() -> None:
    """Requirement C7, with another number than 30 s."""
    registry = fleet("a", trial_after=2.0)
    registry.exclude("a", "m", "500", 0.0)
    assert registry.nodes["a"].excluded["m"].until == 2.0


def test_a_lifted_exclusion_is_gone_with_all_it_had_grown_to() -> None:
    """Requirement C7: by an operator, or after a trial that succeeded; the next failure counts from the start."""
    registry = fleet("a")
    registry.exclude("a", "m", "500", 0.0)
    registry.exclude("a", "m", "500", 30.0, trial=True)
    (change,) = registry.lift("a", "m", "by an operator")
    assert (change.event, change.detail) == ("node.model_restored", "m: by an operator")
    assert available(registry) == {"m": ["a"]}
    registry.exclude("a", "m", "500", 100.0)
    assert registry.nodes["a"].excluded["m"].until == 130.0


def test_what_is_not_excluded_cannot_be_lifted() -> None:
    """No changes tell the caller so; nor can a model fail where it is not."""
    registry = fleet("a")
    assert registry.lift("a", "m", "by an operator") == []
    assert registry.lift("nobody", "m", "by an operator") == []
    assert registry.exclude("a", "unheard of", "500", 0.0) == []
    assert registry.exclude("nobody", "m", "500", 0.0) == []


def test_registering_again_clears_the_exclusions() -> None:
    """Requirements A8 and C7: it restarted, so what failed before may well work now."""
    registry = Registry()
    online(registry)
    registry.exclude("a", "m", "500", 0.0)
    registry.register("a", hello(), HERE, local=False, now=1.0)
    registry.list_models("a", ("m",), 2.0)
    assert available(registry) == {"m": ["a"]}


def test_coming_back_from_offline_clears_the_exclusions() -> None:
    """Requirement C7."""
    registry = Registry()
    online(registry)
    registry.exclude("a", "m", "500", 0.0)
    registry.signal("a", Signal.SILENT, 1.0)
    registry.heartbeat("a", Heartbeat(), 2.0)
    registry.list_models("a", ("m",), 3.0)
    assert available(registry) == {"m": ["a"]}


def test_another_runtime_on_the_node_clears_the_exclusions() -> None:
    """Requirement C7: the agent restarted what hung, and says so by another version of its models."""
    registry = fleet("a", models=("m", "n"))
    for model in ("m", "n"):
        registry.exclude("a", model, "500", 0.0)
    assert registry.heartbeat("a", Heartbeat(models_version=0), 1.0) == []
    changes = registry.heartbeat("a", Heartbeat(models_version=1), 2.0)
    assert [c.event for c in changes] == ["node.model_restored"] * 2
    assert available(registry) == {"m": ["a"], "n": ["a"]}


def test_a_failure_from_before_the_restart_is_not_held_against_the_restarted_node() -> None:
    """Requirement C7: its connections break when it stops, and some are noticed only after it is back."""
    registry = Registry()
    online(registry)
    registry.register("a", hello(), HERE, local=False, now=1.0)
    assert registry.exclude("a", "m", "connection lost", 1.0) == []
    registry.list_models("a", ("m",), 2.0)
    assert available(registry) == {"m": ["a"]}


def test_a_suspicion_clears_no_exclusion() -> None:
    """A probe that is answered says that the node lives, not that the model runs."""
    registry = fleet("a")
    registry.exclude("a", "m", "500", 0.0)
    registry.signal("a", Signal.REQUEST_FAILED, 0.0)
    registry.signal("a", Signal.PROBE_OK, 1.0)
    assert available(registry) == {}


def test_a_new_list_keeps_the_exclusions_of_what_is_still_on_it() -> None:
    """Another model was added: that mends nothing. One that was taken off and comes back starts anew."""
    registry = fleet("a", models=("m", "n"))
    registry.exclude("a", "m", "500", 0.0)
    registry.exclude("a", "n", "500", 0.0)
    registry.list_models("a", ("m", "new"), 1.0)
    registry.list_models("a", ("m", "n", "new"), 2.0)
    assert available(registry) == {"n": ["a"], "new": ["a"]}


def test_what_is_excluded_everywhere_is_not_offered() -> None:
    """Requirement C8: the union of what online nodes list, minus that; C5: it is a known model all the same."""
    registry = fleet("a", "b", models=("m", "n"))
    registry.exclude("a", "m", "500", 0.0)
    registry.exclude("b", "m", "500", 0.0)
    assert list(registry.available()) == ["n"]
    assert "m" in registry


def test_a_node_with_all_its_models_excluded_stays_online() -> None:
    """Requirement C9: and has nothing to offer."""
    registry = fleet("a", models=("m", "n"))
    for model in ("m", "n"):
        registry.exclude("a", model, "500", 0.0)
    assert registry.nodes["a"].state is State.ONLINE
    assert available(registry) == {}


def test_what_is_in_memory_is_what_the_node_says() -> None:
    """Requirement D1: a heartbeat warms what is loaded, and cools what is not any more."""
    registry = fleet("a", models=("m", "n"))
    registry.heartbeat("a", Heartbeat(loaded=["m"]), 1.0)
    assert indexes(registry)[-1] == {"m": ["a"]}
    registry.heartbeat("a", Heartbeat(loaded=["n"]), 2.0)
    assert indexes(registry)[-1] == {"n": ["a"]}
    assert registry.nodes["a"].view().loaded == ["n"]


def test_a_model_on_its_way_into_memory_is_not_taken_for_gone() -> None:
    """While a request for it is being answered, a heartbeat that does not name it yet is early."""
    registry = fleet("a")
    registry.warm_up(registry.nodes["a"], "m", 30.0)
    (lease,) = occupy(registry.nodes["a"])
    registry.heartbeat("a", Heartbeat(), 1.0)
    assert indexes(registry)[-1] == {"m": ["a"]}
    registry.nodes["a"].leases.discard(lease)
    registry.heartbeat("a", Heartbeat(), 6.0)
    assert indexes(registry)[-1] == {}


def test_a_node_that_goes_loses_its_memory() -> None:
    """Offline or removed, nothing is loaded there any more."""
    registry = fleet("a", "b")
    for node_id in ("a", "b"):
        registry.heartbeat(node_id, Heartbeat(loaded=["m"]), 1.0)
    registry.signal("a", Signal.GOODBYE, 2.0)
    registry.remove("b")
    assert indexes(registry)[-1] == {}


def report(registry: Registry, *loaded: str) -> None:
    registry.heartbeat("a", Heartbeat(loaded=list(loaded)), 1.0)


def test_a_node_has_room_until_it_was_seen_to_make_some() -> None:
    """A model that came without another going displaced nothing; nor does one that goes alone make room for any."""
    registry = fleet("a")
    for loaded in (("m",), ("m", "n"), ("n",), ()):
        report(registry, *loaded)
        assert registry.nodes["a"].idle_since() is None


def test_a_node_that_gave_up_a_model_for_another_holds_so_many() -> None:
    """From then on one more drives out the one that is unused for longest."""
    registry = fleet("a")
    node = registry.nodes["a"]
    report(registry, "m", "n")
    report(registry, "n", "o")
    node.touch("n", 5.0)
    node.touch("o", 4.0)
    assert (node.holds, node.idle_since()) == (2, 4.0)
    report(registry, "n")
    assert node.idle_since() is None


def test_a_node_that_is_seen_with_more_models_holds_more() -> None:
    """Small ones take less room than large ones."""
    registry = fleet("a")
    node = registry.nodes["a"]
    report(registry, "large")
    report(registry, "m")
    assert node.holds == 1
    report(registry, "m", "n")
    assert node.holds == 2


def test_a_model_that_is_being_asked_is_not_driven_out() -> None:
    """Only what is idle can go; where nothing is, one more has to wait."""
    registry = fleet("a")
    node = registry.nodes["a"]
    report(registry, "large")
    report(registry, "m")
    occupy(node, "m", since=2.0)
    assert node.idle_since() == math.inf


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


def test_a_node_is_shown_as_operators_name_it() -> None:
    """Requirement F3: a name that was set stands before the machine's, whatever that is now; an empty one does not."""
    registry = Registry()
    node = online(registry)
    (change,) = registry.configure("a", NodeSettings(name="GPU box", changed=1.0))
    assert (change.event, change.name, change.detail) == ("node.changed", "GPU box", "name 'GPU box'")
    registry.register("a", Registration("a", "renamed machine", HERE.port), HERE, local=False, now=1.0)
    assert (node.view().name, node.own_name) == ("GPU box", "renamed machine")
    registry.configure("a", NodeSettings(changed=2.0))
    assert node.view().name == "renamed machine"


@pytest.mark.parametrize(
    ("settings", "detail"),
    [
        (NodeSettings(tags=["lab", "big"], changed=1.0), "tags lab, big"),
        (NodeSettings(notes="ask Mia", changed=1.0), "notes"),
        (NodeSettings(name="x", drain=True, changed=1.0), "name 'x'; drained"),
    ],
)
def test_a_change_of_settings_says_what_is_other(settings: NodeSettings, detail: str) -> None:
    """Requirement F4; the same settings again are no change, and back again is one."""
    registry = Registry()
    node = online(registry)
    assert [c.detail for c in registry.configure("a", settings)] == [detail]
    assert registry.configure("a", settings) == []
    assert node.view().settings == settings
    assert len(registry.configure("a", NodeSettings(changed=2.0))) == 1
    assert registry.configure("nobody", settings) == []


def test_a_drained_node_is_asked_for_nothing() -> None:
    """Requirement F3: online, and what it is answering goes on; its models are listed if another node has them."""
    registry = fleet("a", "b")
    registry.list_models("a", ("m", "only here"), 1.0)
    lease = occupy(registry.nodes["a"])[0]
    registry.configure("a", NodeSettings(drain=True, changed=1.0))
    assert {model: [n.id for n in nodes] for model, nodes in registry.available().items()} == {"m": ["b"]}
    assert "only here" in registry
    assert (registry.nodes["a"].state, registry.nodes["a"].leases) == (State.ONLINE, {lease})
    registry.configure("a", NodeSettings(changed=2.0))
    assert {n.id for n in registry.available()["m"]} == {"a", "b"}
    assert "only here" in registry.available()


@pytest.mark.parametrize(("ours", "theirs", "name"), [(2.0, 1.0, "ours"), (1.0, 2.0, "theirs"), (1.0, 1.0, "ours")])
def test_of_two_copies_the_one_changed_last_counts(ours: float, theirs: float, name: str) -> None:
    """Requirement F3: a router that lost its database gets them back, and an old copy changes nothing."""
    registry = Registry()
    online(registry)
    registry.configure("a", NodeSettings("ours", changed=ours))
    copy = NodeSettings("theirs", drain=True, changed=theirs)
    changes = registry.register("a", hello(settings=copy, backend="cuda"), HERE, local=False, now=1.0)
    view = registry.nodes["a"].view()
    assert (view.name, view.settings.drain, view.backend) == (name, name == "theirs", "cuda")
    assert ("node.changed" in [c.event for c in changes]) == (name == "theirs")


def test_a_new_node_may_be_drained_already() -> None:
    """Its copy of the settings is all there is; it is not used for the moment in which nobody knew."""
    registry = Registry()
    registry.register("a", hello(settings=NodeSettings(drain=True, changed=1.0)), HERE, local=False, now=0.0)
    registry.list_models("a", ("m",), 1.0)
    assert registry.nodes["a"].state is State.ONLINE
    assert not registry.available()


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

    @rule(node_id=IDS, absent=st.sets(st.sampled_from("mno")), fetching=st.sets(st.sampled_from("mno")))
    def list_some_that_it_does_not_have(self, node_id: str, absent: set[str], fetching: set[str]) -> None:
        entries = [ModelEntry(model, stored=model not in absent) for model in "mno"]
        self.registry.list_models(node_id, "mno", self.now, entries)
        for model in fetching if node_id in self.registry.nodes else ():
            self.registry.fetch(self.registry.nodes[node_id], model)

    @rule(node_id=IDS, signal=st.sampled_from(Signal))
    def signal(self, node_id: str, signal: Signal) -> None:
        self.registry.signal(node_id, signal, self.now)

    @rule(node_id=IDS, loaded=MODELS)
    def heartbeat(self, node_id: str, loaded: list[str]) -> None:
        self.registry.heartbeat(node_id, Heartbeat(loaded=loaded), self.now)

    @rule(node_id=IDS)
    def remove(self, node_id: str) -> None:
        self.registry.remove(node_id)

    @rule(seconds=st.floats(0.0, 5.0))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.registry.tick(self.now)

    @rule(node_id=IDS, model=st.sampled_from("mno"), trial=st.booleans())
    def exclude(self, node_id: str, model: str, trial: bool) -> None:  # noqa: FBT001 - hypothesis gives it
        self.registry.exclude(node_id, model, "500", self.now, trial=trial)

    @rule(node_id=IDS, drain=st.booleans(), changed=st.floats(0, 9))
    def configure(self, node_id: str, drain: bool, changed: float) -> None:  # noqa: FBT001 - hypothesis gives it
        self.registry.configure(node_id, NodeSettings(drain=drain, changed=changed))

    @rule(node_id=IDS, model=st.sampled_from("mno"))
    def lift(self, node_id: str, model: str) -> None:
        self.registry.lift(node_id, model, "by an operator")

    @invariant()
    def indexes_are_true(self) -> None:
        """Rule 2 of the registry."""
        registry = self.registry
        online, offered, suspects, _, _ = found = scan(registry)
        assert indexes(registry) == found
        assert list(registry.available()) == sorted({*online, *offered, *suspects})
        assert {m for m in "mnop" if m in registry} == {m for node in registry for m in node.models}

    @invariant()
    def only_nodes_in_rotation_have_exclusions(self) -> None:
        """Requirement C7: what registers is free of them."""
        assert not any(node.excluded for node in self.registry if node.state is State.REGISTERING)


TestAnyStory = AnyStory.TestCase
TestAnyStory.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
