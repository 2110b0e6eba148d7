"""What would happen to a request now, and why, in words."""

import pytest
from tests.core.making import fleet, leased, make_node, make_scheduler, occupy, teach

from llm_router.contract import Explanation, Heartbeat, NodeSettings
from llm_router.core.ask import Ask
from llm_router.core.elsewhere import Counts, Elsewhere
from llm_router.core.estimates import Estimates
from llm_router.core.explain import explain
from llm_router.core.health import Signal, State
from llm_router.core.registry import Registry
from llm_router.core.scheduler import DRAWN, Scheduler

POLICY = "expected-latency"


def asked(registry: Registry, *, model: str = "m", now: float = 1.0, policy: str = POLICY) -> Explanation:
    return explain(registry, make_scheduler(registry, policy), policy, Ask(model, now, size=400), now)


def why_not(explanation: Explanation) -> dict[str, str]:
    return {other.node_id: other.reason for other in explanation.others}


def unequal(*, fast_until: float = 0.0) -> tuple[Registry, Scheduler]:
    """A fast and a slow node that have the model in memory; the fast one's only slot may be taken for a while."""
    registry, estimates = fleet("slow", "fast", slots=1), Estimates()
    teach(estimates, registry.nodes["fast"], prefill=1000.0, decode=100.0)
    teach(estimates, registry.nodes["slow"], prefill=100.0, decode=10.0)
    for node in registry:
        registry.heartbeat(node.id, Heartbeat(loaded=["m"]), 0.0)
    if fast_until:
        occupy(registry.nodes["fast"], until=fast_until)
    return registry, make_scheduler(registry, POLICY, estimates=estimates)


def test_a_lease_is_explained_by_its_cost() -> None:
    """Who would get it, and the candidates with what each would cost, cheapest first."""
    registry, scheduler = unequal()
    told = explain(registry, scheduler, POLICY, Ask("m", 1.0, size=400), 1.0)
    assert (told.model, told.policy, told.decision, told.node_id) == ("m", POLICY, "lease", "fast")
    assert (told.reason, told.code, told.others) == ("lowest cost", "", [])
    assert [(c.node_id, c.slots, c.in_flight, c.loaded) for c in told.candidates] == [
        ("fast", 1, 0, True),
        ("slow", 1, 0, True),
    ]
    assert set(told.candidates[0].cost) == {"cost", "wait", "load", "prefill", "decode", "credit"}


def test_the_only_candidate_needs_no_other_reason() -> None:
    """There is nothing to compare it with."""
    assert asked(fleet("a")).reason == "the only candidate"


def test_a_choice_among_equals_is_explained_by_turns() -> None:
    """Not the cheapest by a hair, but the one that was chosen longest ago."""
    registry, scheduler = unequal()
    leased(scheduler.on_request(Ask("m", 1.0), 1.0))
    occupied = registry.nodes["fast"]
    occupied.leases.clear()
    occupied.resize(2)
    occupy(occupied)
    told = explain(registry, make_scheduler(registry, "round-robin"), "round-robin", Ask("m", 1.0), 1.0)
    assert (told.node_id, told.reason) == ("slow", "lowest cost")
    occupy(registry.nodes["slow"])
    told = explain(registry, make_scheduler(registry, "round-robin"), "round-robin", Ask("m", 1.0), 1.0)
    assert told.node_id == "fast"
    assert "chosen longest ago" in told.reason


def test_waiting_for_a_better_node_is_explained_by_its_name() -> None:
    """Somebody is free, but sooner or later is not sooner."""
    registry, scheduler = unequal(fast_until=1.5)
    told = explain(registry, scheduler, POLICY, Ask("m", 1.0, size=400), 1.0)
    assert (told.decision, told.node_id) == ("queue", "")
    assert "'fast'" in told.reason
    assert registry.nodes["fast"].claims == set()


def test_waiting_for_any_node_is_explained_too() -> None:
    """All are full."""
    registry = fleet("a", slots=1)
    occupy(registry.nodes["a"], until=9.0)
    told = asked(registry)
    assert (told.decision, told.reason) == ("queue", "every candidate is busy")
    assert [c.node_id for c in told.candidates] == ["a"]


def test_a_refusal_is_explained_as_the_client_would_hear_it() -> None:
    """The message and the code of the error."""
    told = asked(fleet("a"), model="unheard of")
    assert (told.decision, told.code, told.candidates) == ("refuse", "model_not_found", [])
    assert "unheard of" in told.reason


def test_a_trial_is_explained_as_such() -> None:
    """Requirement C7; the node is not listed as one that could not."""
    registry = fleet("a", "b")
    registry.exclude("a", "m", "it answered 500", 0.0)
    told = asked(registry, now=30.0)
    assert (told.decision, told.node_id) == ("lease", "a")
    assert "tries again" in told.reason
    assert why_not(told) == {}


def test_who_is_out_is_told_with_the_reason() -> None:
    """Every node is a candidate, or has a reason of its own."""
    registry = fleet(
        "ready",
        make_node("other", ("n",)),
        make_node("new", state=State.REGISTERING),
        make_node("guest", state=State.PENDING),
        make_node("gone", state=State.OFFLINE),
        "suspect",
        "failed",
        "drained",
    )
    registry.configure("drained", NodeSettings(drain=True, changed=1.0))
    registry.signal("suspect", Signal.REQUEST_FAILED, 0.0)
    registry.exclude("failed", "m", "it answered 500", 0.0)
    reasons = why_not(asked(registry, now=10.0))
    assert reasons == {
        "other": "it does not list the model",
        "new": "its models are being pulled",
        "guest": "it waits for approval",
        "gone": "it is offline",
        "suspect": "it is suspect: a request to it failed, and it is being looked at",
        "failed": "the model failed there (it answered 500); it is tried again in 20 s",
        "drained": "drained by an operator",
    }


def test_of_many_that_could_the_rest_was_not_drawn() -> None:
    """Requirement D4: they are no worse, only not looked at this time."""
    told = asked(fleet(*(f"n{i}" for i in range(100))))
    assert len(told.candidates) <= DRAWN
    assert len(told.candidates) + len(told.others) == 100
    assert set(why_not(told).values()) == {"it was not drawn among the many that could"}


def test_a_busy_machine_is_not_called_about_as_good() -> None:
    """Requirement D1: the cheapest was passed over for its CPU, and that is what is said."""
    registry, scheduler = unequal()
    registry.heartbeat("fast", Heartbeat(cpu=95.0, loaded=["m"]), 1.0)
    told = explain(registry, scheduler, POLICY, Ask("m", 1.0, size=400), 1.0)
    assert told.node_id == "slow"
    assert "CPU" in told.reason


def test_a_node_that_is_full_elsewhere_is_shown_as_it_is() -> None:
    """All requests there, whichever replica they came to."""
    registry = fleet("a", slots=2)
    elsewhere = Elsewhere(registry, "ours", dict)
    elsewhere.heard("another", Counts({"a": (2, 0, 0, 0)}), 0.0)
    told = asked(registry)
    assert [(c.in_flight, c.slots) for c in told.candidates] == [(2, 2)]
    assert (told.decision, told.reason) == ("queue", "every candidate is busy")


@pytest.mark.parametrize("others", [[], ["b"]])
def test_places_that_are_kept_for_others_are_told_of(others: list[str]) -> None:
    """A node that could take one more, and does not take ours: that would look like a fault."""
    registry = fleet("a", *others, slots=1)
    elsewhere = Elsewhere(registry, "ours", dict)
    elsewhere.heard("another", Counts({}, {"m": 1}), 0.0)
    elsewhere.heard("third", Counts({}, {"m": 1}), 0.0)
    elsewhere.tick(0.0)
    told = asked(registry)
    assert [c.in_flight for c in told.candidates] == [0] * (1 + len(others))
    assert told.decision == "queue"
    assert told.reason.endswith("free places are kept for requests that wait at other replicas")
