"""Who gets a request, and who waits. The numbers are those of the scheduler's tree."""

import math

import pytest
from tests.core.making import (
    POLICIES,
    fleet,
    leased,
    make_node,
    make_scheduler,
    occupy,
    placed,
    refused,
    sample,
    serve,
    teach,
)

from llm_router.contract import Heartbeat, NodeSettings
from llm_router.core.affinity import conversation
from llm_router.core.ask import Ask
from llm_router.core.estimates import Estimates
from llm_router.core.health import Signal, State
from llm_router.core.registry import Registry
from llm_router.core.scheduler import ASKED, DRAWN, LONGEST_RETRY, QUEUED, Scheduler
from llm_router.errors import AllNodesOffline, ModelNotFound, NoCapableNodes, NoNodes, QueueFull, QueueTimeout

SIMPLE = ("least-requests", "metrics", "round-robin")


def ask(model: str = "m", arrived: float = 1.0, *, tried: str = "") -> Ask:
    made = Ask(model, arrived)
    made.tried = frozenset(tried.split())
    return made


def busy(registry: Registry, model: str = "m", policy: str = "round-robin", **limits: float) -> Scheduler:
    """A scheduler in front of nodes that are full, until the leases on them are given back."""
    scheduler = make_scheduler(registry, policy, **limits)  # type: ignore[arg-type]  # seconds and a count
    for node in registry:
        for _ in range(node.slots):
            others = {n.id for n in registry} - {node.id}
            leased(scheduler.on_request(ask(model, 0.0, tried=" ".join(others)), 0.0))
    return scheduler


# -- 1, 2, 3: nobody to ask


def test_1_without_a_node_there_is_none_to_ask() -> None:
    """Requirement B3: an empty router says so, and how to go on."""
    refusal = refused(make_scheduler(Registry()).on_request(ask(), 1.0))
    assert isinstance(refusal, NoNodes)
    assert "llm-router node" in refusal.message


def test_2_all_nodes_offline_is_said_as_such() -> None:
    """Requirement B3: nodes are known, all are away; that comes before whether anybody knows the model."""
    registry = fleet("a", "b")
    for node_id in ("a", "b"):
        registry.signal(node_id, Signal.GOODBYE, 0.0)
    scheduler = make_scheduler(registry)
    assert isinstance(scheduler.on_request(ask(), 1.0), AllNodesOffline)
    assert isinstance(scheduler.on_request(ask("unheard of"), 1.0), AllNodesOffline)


def test_3_a_model_nobody_lists_is_not_found() -> None:
    """Requirement B3: 404, with the name that was asked for."""
    refusal = refused(make_scheduler(fleet("a")).on_request(ask("unheard of"), 1.0))
    assert isinstance(refusal, ModelNotFound)
    assert "unheard of" in refusal.message


# -- 4: who can answer


def test_4_only_nodes_that_list_the_model_are_asked() -> None:
    """Requirement C5."""
    registry = fleet("b", "c", make_node("a", ("other",)))
    assert set(serve(make_scheduler(registry), 6)) == {"b", "c"}


def test_4_nodes_that_have_it_excluded_are_not_asked_for_it() -> None:
    """Requirements C5 and C6: they are for everything else."""
    registry = fleet("a", "b", models=("m", "n"))
    registry.exclude("a", "m", "500", 0.0)
    scheduler = make_scheduler(registry)
    assert set(serve(scheduler, 6, "m")) == {"b"}
    assert set(serve(scheduler, 6, "n")) == {"a", "b"}


def test_4_a_node_that_failed_this_request_is_not_asked_again() -> None:
    """Requirement B5: the next one gets it, until there is none left."""
    scheduler = make_scheduler(fleet("a", "b"))
    first = leased(scheduler.on_request(ask(), 1.0))
    second = leased(scheduler.on_request(ask(tried=first.node.id), 1.0))
    assert second.node is not first.node
    assert isinstance(scheduler.on_request(ask(tried="a b"), 1.0), NoCapableNodes)


@pytest.mark.parametrize("policy", POLICIES)
def test_4_a_request_that_two_nodes_failed_gets_the_third(policy: str) -> None:
    """Requirement B5, whichever policy chooses."""
    scheduler = make_scheduler(fleet("a", "b", "c"), policy)
    assert leased(scheduler.on_request(ask(tried="a c"), 1.0)).node.id == "b"


@pytest.mark.parametrize("state", [State.REGISTERING, State.PENDING, State.OFFLINE])
def test_4_who_is_not_in_rotation_gets_nothing(state: State) -> None:
    """Requirements A4 and A10: nor does a node of which the models are still being pulled."""
    registry = fleet(make_node("a", state=state), "b", models=("other",))
    assert isinstance(make_scheduler(registry).on_request(ask(), 1.0), NoCapableNodes)


@pytest.mark.parametrize("policy", POLICIES)
def test_4_a_drained_node_gets_nothing_new(policy: str) -> None:
    """Requirement F3: though it holds the conversation, has the model in memory, and is one of many."""
    registry = fleet(*(f"n{i}" for i in range(DRAWN + 1)), "drained")
    scheduler = make_scheduler(registry, policy)
    talk = conversation("m", [b"1", b"2"])
    registry.heartbeat("drained", Heartbeat(loaded=["m"]), 0.0)
    others = " ".join(f"n{i}" for i in range(DRAWN + 1))
    first = Ask("m", 1.0, size=4000, conversation=talk)
    first.tried = frozenset(others.split())
    lease = leased(scheduler.on_request(first, 1.0))
    scheduler.on_done(lease, 1.0, failed=False, sample=sample())
    assert lease.node.id == "drained"
    registry.configure("drained", NodeSettings(drain=True, changed=1.0))
    for _ in range(DRAWN * 2):
        again = leased(scheduler.on_request(Ask("m", 2.0, size=4000, conversation=talk), 2.0))
        assert again.node is not lease.node
        scheduler.on_done(again, 2.0, failed=False)


def test_4_who_waits_for_a_node_that_is_drained_goes_elsewhere() -> None:
    """Requirement F3: a place on another node, once there is one; what was under way is counted to its end."""
    registry = fleet("a", "b", slots=1)
    scheduler = busy(registry)
    waiting = ask()
    assert scheduler.on_request(waiting, 1.0) is QUEUED
    registry.configure("a", NodeSettings(drain=True, changed=1.0))
    assert scheduler.on_tick(1.0) == []
    (on_a,) = registry.nodes["a"].leases
    (on_b,) = registry.nodes["b"].leases
    assert scheduler.on_done(on_a, 2.0, failed=False) == []
    assert placed(scheduler.on_done(on_b, 3.0, failed=False)) == [(waiting, "b")]
    assert registry.nodes["a"].done == 1


def test_4c_the_only_node_that_can_is_drained() -> None:
    """Requirement F3: 503 that says so, for new requests and for who waits; afterwards all is as before."""
    registry = fleet("a", "other", models=("m",), slots=1)
    registry.list_models("other", ("n",), 0.0)
    scheduler = make_scheduler(registry)
    leased(scheduler.on_request(ask(), 1.0))
    waiting = ask()
    assert scheduler.on_request(waiting, 1.0) is QUEUED
    registry.configure("a", NodeSettings("GPU box", drain=True, changed=1.0))
    ((told, refusal),) = scheduler.on_tick(1.0)
    assert told is waiting
    for error in (refusal, scheduler.on_request(ask(), 1.0)):
        assert isinstance(error, NoCapableNodes)
        assert "drained by an operator: 'GPU box'" in error.message
    assert leased(scheduler.on_request(ask("n"), 1.0)).node.id == "other"
    registry.configure("a", NodeSettings(changed=2.0))
    assert scheduler.on_request(ask(), 2.0) is QUEUED


def test_4c_of_many_drained_nodes_some_are_named() -> None:
    """A refusal is a line, whatever the size of the fleet."""
    registry = fleet(*"abcde")
    for node in registry:
        registry.configure(node.id, NodeSettings(drain=True, changed=1.0))
    assert refused(make_scheduler(registry).on_request(ask(), 1.0)).message.endswith("'a', 'b', 'c' and others")


def test_4a_an_exclusion_that_is_due_is_tried_with_the_next_request() -> None:
    """Requirement C7: after 30 s, and not before; other nodes being free does not keep it."""
    registry = fleet("a", "b")
    registry.exclude("a", "m", "500", 10.0)
    scheduler = make_scheduler(registry)
    assert leased(scheduler.on_request(ask(), 39.9)).node.id == "b"
    trial = leased(scheduler.on_request(ask(), 40.0))
    assert (trial.node.id, trial.trial) == ("a", True)


def test_4a_one_trial_at_a_time() -> None:
    """Requirement C7: until it has ended; then the next may follow, for it may have ended without saying anything."""
    registry = fleet("a", "b")
    registry.exclude("a", "m", "500", 0.0)
    scheduler = make_scheduler(registry)
    trial = leased(scheduler.on_request(ask(), 30.0))
    assert leased(scheduler.on_request(ask(), 31.0)).node.id == "b"
    scheduler.on_done(trial, 32.0, failed=False)
    assert leased(scheduler.on_request(ask(), 33.0)).trial


def test_4a_a_trial_alone_lifts_nothing() -> None:
    """Whether it succeeded is for those to say who saw the answer."""
    registry = fleet("a", "b")
    registry.exclude("a", "m", "500", 0.0)
    scheduler = make_scheduler(registry)
    trial = leased(scheduler.on_request(ask(), 30.0))
    scheduler.on_done(trial, 31.0, failed=False)
    assert list(registry.nodes["a"].excluded) == ["m"]
    registry.lift("a", "m", "a trial succeeded")
    assert set(serve(scheduler, 4)) == {"a", "b"}


def test_4a_a_trial_that_failed_keeps_the_model_away_for_longer() -> None:
    """Requirement C7: doubling."""
    registry = fleet("a", "b")
    registry.exclude("a", "m", "500", 0.0)
    scheduler = make_scheduler(registry)
    trial = leased(scheduler.on_request(ask(), 30.0))
    registry.exclude("a", "m", "500 again", 31.0, trial=True)
    scheduler.on_done(trial, 31.0, failed=True)
    assert leased(scheduler.on_request(ask(), 90.9)).node.id == "b"
    assert leased(scheduler.on_request(ask(), 91.0)).trial


def test_4a_a_request_that_failed_there_is_not_its_own_trial() -> None:
    """Requirement B5 goes before C7."""
    registry = fleet("a", "b")
    registry.exclude("a", "m", "500", 0.0)
    assert leased(make_scheduler(registry).on_request(ask(tried="a"), 30.0)).node.id == "b"


def test_4a_a_trial_is_made_even_when_nobody_else_can() -> None:
    """A fleet of one must not lock itself out."""
    registry = fleet("a")
    registry.exclude("a", "m", "500", 0.0)
    scheduler = make_scheduler(registry)
    assert isinstance(scheduler.on_request(ask(), 29.0), NoCapableNodes)
    assert leased(scheduler.on_request(ask(), 30.0)).trial


def test_4a_a_full_node_is_not_tried() -> None:
    """A trial takes a slot like any other request."""
    registry = fleet("a", models=("m", "n"), slots=1)
    registry.exclude("a", "m", "500", 0.0)
    scheduler = make_scheduler(registry)
    leased(scheduler.on_request(ask("n"), 30.0))
    assert isinstance(scheduler.on_request(ask("m"), 30.0), NoCapableNodes)


def test_4a_a_suspect_is_not_tried() -> None:
    """Requirement E2: the router sends it nothing while it is being looked at, if another can answer."""
    registry = fleet("a", "b")
    registry.exclude("a", "m", "500", 0.0)
    registry.signal("a", Signal.REQUEST_FAILED, 0.0)
    scheduler = make_scheduler(registry)
    assert leased(scheduler.on_request(ask(), 30.0)).node.id == "b"
    registry.signal("a", Signal.PROBE_OK, 31.0)
    assert leased(scheduler.on_request(ask(), 31.0)).trial


def test_4a_who_waits_may_be_the_trial() -> None:
    """A place is a place."""
    registry = fleet("a", "b", slots=1)
    scheduler = busy(registry)
    registry.signal("a", Signal.GOODBYE, 0.0)  # and comes back idle, with the model failing at once
    registry.heartbeat("a", Heartbeat(), 0.0)
    registry.list_models("a", ("m",), 0.0)
    for lease in list(registry.nodes["a"].leases):
        scheduler.on_done(lease, 0.0, failed=True)
    registry.exclude("a", "m", "500", 0.0)
    waiting = ask()
    assert scheduler.on_request(waiting, 1.0) is QUEUED
    assert scheduler.on_tick(29.0) == []
    assert placed(scheduler.on_tick(30.0)) == [(waiting, "a")]


def test_4b_suspects_are_a_last_resort() -> None:
    """design.md §5: a suspect node is used only when nobody else can."""
    registry = fleet("a", "b")
    registry.signal("a", Signal.REQUEST_FAILED, 0.0)
    scheduler = make_scheduler(registry)
    assert set(serve(scheduler, 4)) == {"b"}
    assert leased(scheduler.on_request(ask(tried="b"), 1.0)).node.id == "a"
    registry.signal("b", Signal.GOODBYE, 0.0)
    assert set(serve(scheduler, 2)) == {"a"}


def test_4b_a_busy_node_is_waited_for_rather_than_a_suspect_used() -> None:
    """Busy is not unable."""
    registry = fleet("a", "b", slots=1)
    scheduler = busy(registry)
    for lease in list(registry.nodes["a"].leases):
        scheduler.on_done(lease, 1.0, failed=True)
    registry.signal("a", Signal.REQUEST_FAILED, 1.0)
    assert scheduler.on_request(ask(), 1.0) is QUEUED


def test_4c_a_known_model_on_nodes_that_are_away_can_be_had_later() -> None:
    """Requirement B3: known, but no online node can run it now."""
    registry = fleet("a", make_node("b", ("other",), state=State.OFFLINE))
    refusal = refused(make_scheduler(registry).on_request(ask("other"), 1.0))
    assert isinstance(refusal, NoCapableNodes)
    assert refusal.retry_after == 0


def test_4c_a_model_that_failed_everywhere_says_so_and_when_it_is_tried_again() -> None:
    """Requirement B3: the error says what to do next."""
    registry = fleet("a", "b")
    registry.exclude("a", "m", "it answered 500", 0.0)
    registry.exclude("b", "m", "connection lost", 10.0)
    refusal = refused(make_scheduler(registry).on_request(ask(), 12.4))
    assert isinstance(refusal, NoCapableNodes)
    assert (refusal.retry_after, "it answered 500" in refusal.message) == (18, True)


# -- 4: many candidates


def many(count: int, *, slots: int = 1) -> Registry:
    return fleet(*(f"n{i:03}" for i in range(count)), slots=slots)


@pytest.mark.parametrize("policy", POLICIES)
def test_4_of_many_candidates_a_few_are_weighed(policy: str) -> None:
    """Requirement D4: at most DRAWN, whatever the size of the fleet."""
    preview = make_scheduler(many(100), policy).preview(ask(), 1.0)
    assert 1 <= len(preview.candidates) <= DRAWN
    assert len({n.id for n in preview.candidates}) == len(preview.candidates)


def test_4_the_draw_reaches_everybody() -> None:
    """Requirement D3: idle equals share work evenly, however many they are."""
    served = serve(make_scheduler(many(100)), 1000)
    assert len(served) == 100
    assert max(served.values()) <= 1.5 * min(served.values())


def test_4_the_draw_reaches_everybody_in_step_with_other_models() -> None:
    """Two models asked for by turns: neither sees only every other part of the fleet."""
    registry = fleet(*(f"n{i}" for i in range(64)), models=("m", "n"))
    scheduler = make_scheduler(registry)
    seen = set()
    for _ in range(50):
        seen |= {n.id for n in scheduler.preview(ask("m"), 1.0).candidates}
        serve(scheduler, 1, "m")
        serve(scheduler, 1, "n")
    assert len(seen) == 64


@pytest.mark.parametrize("policy", POLICIES)
def test_4_who_has_the_model_in_memory_is_among_the_drawn(policy: str) -> None:
    """Wherever in the fleet it is, at every turn."""
    registry = many(100)
    scheduler = make_scheduler(registry, policy)
    for _ in range(10):
        serve(scheduler, 1)
        for node in registry:
            registry.heartbeat(node.id, Heartbeat(), 1.0)
        for node_id in ("n007", "n055", "n099"):
            registry.heartbeat(node_id, Heartbeat(loaded=["m"]), 1.0)
        drawn = {n.id for n in scheduler.preview(ask(), 1.0).candidates}
        assert drawn >= {"n007", "n055", "n099"}


def test_4_who_holds_the_conversation_is_among_the_drawn() -> None:
    """However many others have the model in memory."""
    registry = many(100)
    scheduler = make_scheduler(registry, "expected-latency")
    for node in registry:
        registry.heartbeat(node.id, Heartbeat(loaded=["m"]), 1.0)
    talk = Ask("m", 1.0, size=9, conversation=conversation("m", [b'"question"']))
    first = leased(scheduler.on_request(talk, 1.0))
    scheduler.on_done(first, 2.0, failed=False, sample=sample(prompt_tokens=9, seconds=1.0))
    serve(scheduler, 50, now=3.0)
    more = conversation("m", [b'"question"', b'"answer"', b'"next"'])
    for _ in range(10):
        serve(scheduler, 1, now=4.0)
        preview = scheduler.preview(Ask("m", 4.0, size=9, conversation=more), 4.0)
        assert first.node in preview.candidates


@pytest.mark.parametrize("policy", POLICIES)
def test_4_nobody_waits_while_one_of_many_is_free(policy: str) -> None:
    """When all that were drawn are full, those that are free are looked for."""
    registry = many(100)
    scheduler = busy(registry, policy=policy)
    for lease in list(registry.nodes["n042"].leases):
        scheduler.on_done(lease, 1.0, failed=False)
    given = leased(scheduler.on_request(ask(), 1.0))
    assert given.node.id == "n042"
    assert scheduler.on_request(ask(), 1.0) is QUEUED


def test_4_who_may_not_answer_is_never_drawn() -> None:
    """The holder and the warm are candidates only if they are any."""
    registry = many(100)
    for node in registry:
        registry.heartbeat(node.id, Heartbeat(loaded=["m"]), 1.0)
    registry.exclude("n000", "m", "500", 0.0)
    registry.signal("n001", Signal.REQUEST_FAILED, 0.0)
    registry.list_models("n002", ("other",), 0.0)
    registry.signal("n003", Signal.REGISTERED, 0.0)
    scheduler = make_scheduler(registry, "least-requests")
    out = {"n000", "n001", "n002", "n003", "n004"}
    given = [leased(scheduler.on_request(ask(tried="n004"), 1.0)).node.id for _ in range(95)]
    assert len(set(given)) == 95
    assert not out & set(given)
    assert scheduler.on_request(ask(tried="n004"), 1.0) is QUEUED


def test_4_a_removed_node_is_not_remembered_for_what_it_held() -> None:
    """Its last answer arrives after it was removed: that makes it no candidate."""
    registry = many(40, slots=4)
    scheduler = make_scheduler(registry)
    given = leased(scheduler.on_request(ask(), 1.0))
    registry.remove(given.node.id)
    scheduler.on_done(given, 2.0, failed=False, sample=sample(prompt_tokens=9, completion_tokens=9, seconds=1.0))
    assert given.node.id not in serve(scheduler, 200)
    assert all(node in list(registry) for node in registry.warm["m"])


# -- 5: a place


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("requests", "least", "most"), [(9, 3, 3), (30, 9, 11), (10, 2, 5)])
def test_5_three_equal_nodes_take_turns(policy: str, requests: int, least: int, most: int) -> None:
    """Requirement B4: 9 requests in a row are 3 each, 30 are about 10 each, 10 are 2 to 5 each."""
    registry = fleet("a", "b", "c")
    for node in registry:
        registry.heartbeat(node.id, Heartbeat(memory=1.0, loaded=["m"]), 0.0)
    answered = serve(make_scheduler(registry, policy), requests)
    assert len(answered) == 3
    assert all(least <= n <= most for n in answered.values())


@pytest.mark.parametrize("policy", SIMPLE)
def test_5_equal_nodes_with_nothing_loaded_take_turns(policy: str) -> None:
    """Requirement B4, for those that do not ask what is in memory."""
    answered = serve(make_scheduler(fleet("a", "b", "c"), policy), 9)
    assert set(answered.values()) == {3}


@pytest.mark.parametrize("policy", POLICIES)
def test_5_one_node_takes_all_that_it_has_slots_for(policy: str) -> None:
    """Requirement B4: one node, five requests at once; the fifth has to wait for one of the four."""
    registry = fleet("a", slots=4)
    scheduler = make_scheduler(registry, policy)
    given = [leased(scheduler.on_request(ask(), 1.0)) for _ in range(4)]
    fifth = ask()
    assert scheduler.on_request(fifth, 1.0) is QUEUED
    assert registry.nodes["a"].in_flight == 4
    assert placed(scheduler.on_done(given[2], 2.0, failed=False)) == [(fifth, "a")]


def test_5_a_request_is_in_flight_until_it_is_given_back_once() -> None:
    """Requirement B7: giving back twice counts once."""
    registry = fleet("a")
    scheduler = make_scheduler(registry)
    given = leased(scheduler.on_request(ask(), 7.0))
    node = registry.nodes["a"]
    assert (given.since, given.model, node.in_flight) == (7.0, "m", 1)
    scheduler.on_done(given, 8.0, failed=True)
    assert scheduler.on_done(given, 9.0, failed=False) == []
    assert (node.in_flight, node.failed, node.done) == (0, 1, 0)


def test_5_a_removed_node_still_gets_its_lease_back() -> None:
    """An operator may remove a node that is answering: the request goes on, and is counted to its end."""
    registry = fleet("a")
    scheduler = make_scheduler(registry)
    given = leased(scheduler.on_request(ask(), 1.0))
    registry.remove("a")
    assert scheduler.on_done(given, 2.0, failed=False) == []
    assert (given.node.in_flight, given.node.done) == (0, 1)
    assert isinstance(scheduler.on_request(ask(), 3.0), NoNodes)


def test_5_the_first_request_for_a_model_finds_it_cold_the_next_warm() -> None:
    """A load is noted when it begins, so that who comes a little later does not start another one elsewhere."""
    registry, estimates = fleet("a", "b"), Estimates()
    scheduler = make_scheduler(registry, "expected-latency", estimates=estimates)
    first = leased(scheduler.on_request(ask(), 1.0))
    ready = first.node.warm["m"]
    second = leased(scheduler.on_request(ask(), ready - 0.5))
    assert (first.cold, second.cold) == (True, False)
    assert first.node is second.node


def test_5_what_was_answered_teaches() -> None:
    """The rates of the node, and that the model is in its memory."""
    registry, estimates = fleet("a"), Estimates()
    scheduler = make_scheduler(registry, estimates=estimates)
    given = leased(scheduler.on_request(ask(), 1.0))
    scheduler.on_done(
        given, 9.0, failed=False, sample=sample(completion_tokens=30, completion_seconds=2.0, load_seconds=6.0)
    )
    node = registry.nodes["a"]
    assert (node.warm["m"], estimates.of(node, estimates.model("m")).decode) == (0.0, 15.0)


def test_5_a_model_is_in_use_until_its_last_answer() -> None:
    """How long it has been idle counts from then, not from when it was asked for."""
    registry = fleet("a")
    node = registry.nodes["a"]
    node.holds = 1
    scheduler = make_scheduler(registry)
    given = leased(scheduler.on_request(ask(), 1.0))
    assert node.idle_since() == math.inf
    scheduler.on_done(given, 9.0, failed=False)
    assert node.idle_since() == 9.0


def test_5_the_next_turn_of_a_conversation_goes_to_who_answered_the_last() -> None:
    """design.md §5, Affinity: it has read most of the prompt already."""
    registry = fleet("a", "b")
    for node in registry:
        registry.heartbeat(node.id, Heartbeat(loaded=["m"]), 0.0)
    scheduler = make_scheduler(registry, "expected-latency")
    question, answer = b"q" * 4000, b"a" * 4000
    for turn in range(1, 5):
        messages = [question, answer] * turn
        talk = Ask("m", 1.0, size=8000 * turn, conversation=conversation("m", messages[:-1]))
        given = leased(scheduler.on_request(talk, 1.0))
        told = sample(prompt_tokens=2000 * turn, completion_tokens=50, seconds=1.0)
        scheduler.on_done(given, 2.0, failed=False, sample=told)
        assert given.node.id == "a"
        while scheduler.preview(ask(), 3.0).decision is given.node:  # until another's turn would be at b
            serve(scheduler, 1, now=3.0)


def test_5_an_answer_after_the_goodbye_warms_nothing() -> None:
    """The node is offline: its memory is gone, whatever it still sent."""
    registry = fleet("a")
    scheduler = make_scheduler(registry)
    given = leased(scheduler.on_request(ask(), 1.0))
    registry.signal("a", Signal.GOODBYE, 2.0)
    scheduler.on_done(given, 3.0, failed=False, sample=sample(seconds=2.0))
    assert registry.warm == {}


# -- 6 and 7: the queue


def test_6_as_many_wait_as_may() -> None:
    """Requirement B3: then 429, with the time after which to ask again."""
    scheduler = busy(fleet("a", slots=1), queue_size=2)
    assert [scheduler.on_request(ask(), 1.0) for _ in range(2)] == [QUEUED, QUEUED]
    refusal = refused(scheduler.on_request(ask(), 1.0))
    assert isinstance(refusal, QueueFull)
    assert refusal.retry_after >= 1
    assert scheduler.waiting == 2


def test_6_a_queue_of_no_places_refuses_at_once() -> None:
    """Requirement D5: its size is a setting."""
    assert isinstance(busy(fleet("a"), queue_size=0).on_request(ask(), 1.0), QueueFull)


def test_6_each_model_has_its_own_queue() -> None:
    """Requirement D5: one that is asked for too much leaves the others their places."""
    scheduler = busy(fleet("a", models=("m", "n"), slots=1), queue_size=1)
    assert scheduler.on_request(ask("m"), 1.0) is QUEUED
    assert scheduler.on_request(ask("n"), 1.0) is QUEUED
    assert isinstance(scheduler.on_request(ask("m"), 1.0), QueueFull)


@pytest.mark.parametrize(("seconds", "retry_after"), [(0.1, 1), (6.0, 9), (1000.0, LONGEST_RETRY)])
def test_6_a_client_is_told_when_a_place_is_likely(seconds: float, retry_after: int) -> None:
    """Two before it on two slots, itself: three rounds of half a request each, between 1 s and a minute."""
    registry, estimates = fleet("a", slots=2), Estimates()
    scheduler = make_scheduler(registry, estimates=estimates, queue_size=2)
    estimates.model("m").seconds = seconds
    for _ in range(4):
        scheduler.on_request(ask(), 1.0)
    assert refused(scheduler.on_request(ask(), 1.0)).retry_after == retry_after


def test_7_a_freed_place_goes_to_the_longest_waiting() -> None:
    """Requirement D5: first come, first served."""
    registry = fleet("a", slots=1)
    scheduler = busy(registry)
    waiting = [ask(arrived=float(i)) for i in range(1, 5)]
    for one in waiting:
        assert scheduler.on_request(one, one.arrived) is QUEUED
    served = []
    for _ in waiting:
        (lease,) = registry.nodes["a"].leases
        served += placed(scheduler.on_done(lease, 9.0, failed=False))
    assert [who for who, _ in served] == waiting
    assert scheduler.waiting == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_7_a_freed_place_goes_to_the_longest_waiting_that_the_node_can_serve(policy: str) -> None:
    """Requirement D5: across models; who needs another node does not stand in the way."""
    registry = fleet(make_node("a", ("m", "n"), slots=1), make_node("b", ("o",), slots=1))
    scheduler = make_scheduler(registry, policy)
    first = leased(scheduler.on_request(ask("m"), 0.0))
    leased(scheduler.on_request(ask("o"), 0.0))
    other, second, third = ask("o", 1.0), ask("n", 2.0), ask("m", 3.0)
    for one in (other, second, third):
        assert scheduler.on_request(one, one.arrived) is QUEUED
    assert placed(scheduler.on_done(first, 9.0, failed=False)) == [(second, "a")]


def test_7_places_that_come_free_together_go_in_the_order_of_arrival() -> None:
    """A node came back: its slots are filled at once, by those who have waited longest."""
    registry = fleet("a", make_node("b", ("m",), slots=2, state=State.OFFLINE), slots=1)
    scheduler = make_scheduler(registry)
    leased(scheduler.on_request(ask(), 0.0))
    waiting = [ask(arrived=float(i)) for i in range(1, 4)]
    for one in waiting:
        scheduler.on_request(one, one.arrived)
    registry.heartbeat("b", Heartbeat(), 5.0)
    registry.list_models("b", ("m",), 5.0)
    assert placed(scheduler.on_tick(5.0)) == [(waiting[0], "b"), (waiting[1], "b")]


def test_7_a_request_that_comes_back_keeps_its_place() -> None:
    """Requirement B5: its node failed; who arrived later is served later."""
    registry = fleet("a", "b", slots=1)
    scheduler = make_scheduler(registry)
    early, late = ask(arrived=1.0), ask(arrived=3.0)
    failed = leased(scheduler.on_request(early, 1.0))
    other = leased(scheduler.on_request(ask(arrived=2.0), 2.0))
    assert scheduler.on_request(late, 3.0) is QUEUED
    registry.signal(failed.node.id, Signal.GOODBYE, 4.0)
    assert scheduler.on_done(failed, 4.0, failed=True) == []
    early.tried = frozenset({failed.node.id})
    assert scheduler.on_request(early, 4.0) is QUEUED
    assert placed(scheduler.on_done(other, 5.0, failed=False)) == [(early, other.node.id)]


def test_7_a_request_that_comes_back_is_never_refused_for_a_full_queue() -> None:
    """Requirement B5: it was admitted once, and its client noticed nothing so far."""
    scheduler = busy(fleet("a", "b", slots=1), queue_size=1)
    assert scheduler.on_request(ask(), 1.0) is QUEUED
    assert scheduler.on_request(ask(tried="a"), 1.0) is QUEUED
    assert scheduler.waiting == 2


def test_7_a_waiting_request_passes_by_the_node_that_failed_it() -> None:
    """Its slot comes free, and goes to who can use it."""
    registry = fleet("a", "b", slots=1)
    scheduler = busy(registry)
    burnt, fresh = ask(arrived=1.0, tried="a"), ask(arrived=2.0)
    for one in (burnt, fresh):
        scheduler.on_request(one, one.arrived)
    (lease,) = registry.nodes["a"].leases
    assert placed(scheduler.on_done(lease, 3.0, failed=False)) == [(fresh, "a")]


def test_7_a_client_that_goes_away_leaves_the_queue() -> None:
    """Requirement B6: and whoever was behind it moves up."""
    registry = fleet("a", slots=1)
    scheduler = busy(registry)
    gone, stays = ask(arrived=1.0), ask(arrived=2.0)
    for one in (gone, stays):
        scheduler.on_request(one, one.arrived)
    scheduler.on_cancel(gone)
    assert scheduler.waiting == 1
    (lease,) = registry.nodes["a"].leases
    assert placed(scheduler.on_done(lease, 3.0, failed=False)) == [(stays, "a")]


def test_7_to_cancel_what_does_not_wait_changes_nothing() -> None:
    """One that was leased, one that was cancelled before, one that was never seen."""
    registry = fleet("a", slots=1)
    scheduler = busy(registry)
    waits = ask()
    scheduler.on_request(waits, 1.0)
    (lease,) = registry.nodes["a"].leases
    for one in (lease.ask, waits, waits, ask("unheard of")):
        scheduler.on_cancel(one)
    assert (scheduler.waiting, registry.nodes["a"].in_flight) == (0, 1)


def test_7_nobody_waits_longer_than_they_may() -> None:
    """Requirement B3: 504 after `queue_timeout` seconds; a request that came back waits from then on."""
    scheduler = busy(fleet("a", "b", slots=1), queue_timeout=60.0)
    first, back = ask(arrived=1.0), ask(arrived=1.0, tried="a")
    scheduler.on_request(first, 1.0)
    scheduler.on_request(back, 11.0)
    assert scheduler.on_tick(60.9) == []
    ((who, refusal),) = scheduler.on_tick(61.0)
    assert who is first
    assert isinstance(refusal, QueueTimeout)
    assert [one for one, _ in scheduler.on_tick(71.0)] == [back]
    assert scheduler.waiting == 0


def test_7_who_waits_for_nodes_that_all_left_is_told_at_once() -> None:
    """Requirement B3: nobody can run it any more, so nobody is worth waiting for."""
    registry = fleet("a", "b", slots=1)
    registry.list_models("b", ("other",), 0.0)
    scheduler = make_scheduler(registry)
    leased(scheduler.on_request(ask(), 0.0))
    waits = ask()
    scheduler.on_request(waits, 1.0)
    registry.signal("a", Signal.GOODBYE, 2.0)
    ((who, refusal),) = scheduler.on_tick(2.0)
    assert who is waits
    assert isinstance(refusal, NoCapableNodes)


def test_7_a_freed_slot_that_is_one_too_many_goes_to_nobody() -> None:
    """The node came back with fewer slots than it has requests under way."""
    registry = fleet("a", slots=2)
    scheduler = busy(registry)
    waits = ask()
    scheduler.on_request(waits, 1.0)
    node = registry.nodes["a"]
    node.resize(1)
    first, second = node.leases
    assert scheduler.on_done(first, 2.0, failed=False) == []
    assert placed(scheduler.on_done(second, 2.0, failed=False)) == [(waits, "a")]


@pytest.mark.parametrize("wakes", ["done", "tick"])
def test_7_a_crowd_that_waits_for_one_model_hides_nobody_who_waits_for_another(wakes: str) -> None:
    """No lost wake-up: a slot that the crowd cannot use goes to who can."""
    crowded = make_node("a", ("m",), slots=1)
    both = make_node("b", ("m", "n"), slots=1)
    registry = fleet(crowded, both)
    registry.exclude("b", "m", "500", 0.0)
    scheduler = make_scheduler(registry, queue_size=2 * ASKED)
    leased(scheduler.on_request(ask("m"), 0.0))
    lease = leased(scheduler.on_request(ask("n"), 0.0))
    for _ in range(ASKED + 1):
        assert scheduler.on_request(ask("m", 1.0), 1.0) is QUEUED
    alone = ask("n", 2.0)
    assert scheduler.on_request(alone, 2.0) is QUEUED
    if wakes == "done":
        assert placed(scheduler.on_done(lease, 3.0, failed=False)) == [(alone, "b")]
    else:
        both.resize(2)
        assert placed(scheduler.on_tick(3.0)) == [(alone, "b")]


# -- waiting for a better node


def test_7_who_waits_for_a_faster_node_gets_it_when_it_is_free() -> None:
    """design.md §5: late binding; the claim goes when the wish is fulfilled."""
    registry, estimates = fleet("fast", "slow", slots=1), Estimates()
    teach(estimates, registry.nodes["fast"], prefill=1000.0, decode=100.0, load=5.0)
    teach(estimates, registry.nodes["slow"], prefill=100.0, decode=5.0, load=60.0)
    scheduler = make_scheduler(registry, "expected-latency", estimates=estimates)
    lease = leased(scheduler.on_request(ask(), 0.0))
    waits = ask(arrived=1.0)
    assert scheduler.on_request(waits, 1.0) is QUEUED
    assert (waits.target, lease.node.claims) == ("fast", {waits})
    assert placed(scheduler.on_done(lease, 2.0, failed=False)) == [(waits, "fast")]
    assert (waits.target, lease.node.claims) == ("", set())


def test_7_who_waited_in_vain_takes_the_slower_node_in_the_end() -> None:
    """The fast node takes longer than expected: at some tick the slow one is the better offer."""
    registry, estimates = fleet("fast", "slow", slots=1), Estimates()
    teach(estimates, registry.nodes["fast"], prefill=1000.0, decode=100.0, load=5.0)
    teach(estimates, registry.nodes["slow"], prefill=500.0, decode=25.0, load=6.0)
    scheduler = make_scheduler(registry, "expected-latency", estimates=estimates)
    leased(scheduler.on_request(ask(), 0.0))
    waits = ask(arrived=6.0)
    assert scheduler.on_request(waits, 6.0) is QUEUED
    decided = [placed(scheduler.on_tick(float(now))) for now in range(7, 60)]
    assert [(waits, "slow")] in decided
    assert not registry.nodes["fast"].claims


def test_7_who_changes_its_mind_claims_one_node_at_a_time() -> None:
    """The node that was waited for gets slow, another one is about to be free."""
    registry, estimates = fleet("fast", "next", "slow", slots=1), Estimates()
    for node_id, rate in (("fast", 100.0), ("next", 80.0), ("slow", 1.0)):
        teach(estimates, registry.nodes[node_id], prefill=10 * rate, decode=rate, load=600.0)
        registry.heartbeat(node_id, Heartbeat(loaded=["m"]), 0.0)
    fast, following, _ = registry
    occupy(fast, since=0.0, until=2.0)
    occupy(following, since=0.0, until=20.0)
    scheduler = make_scheduler(registry, "expected-latency", estimates=estimates)
    waits = ask()
    assert scheduler.on_request(waits, 1.0) is QUEUED
    assert (waits.target, fast.claims, following.claims) == ("fast", {waits}, set())
    assert scheduler.on_tick(19.9) == []
    assert (waits.target, fast.claims, following.claims) == ("next", set(), {waits})


def test_7_a_claim_of_ones_own_is_no_reason_to_go_elsewhere() -> None:
    """Nobody stands in their own way, however often they are asked."""
    registry, estimates = fleet("fast", "slow", slots=1), Estimates()
    for node_id, rate in (("fast", 100.0), ("slow", 10.0)):
        teach(estimates, registry.nodes[node_id], prefill=10 * rate, decode=rate)
        registry.heartbeat(node_id, Heartbeat(loaded=["m"]), 0.0)
    occupy(registry.nodes["fast"], since=0.0, until=3.0)
    scheduler = make_scheduler(registry, "expected-latency", estimates=estimates)
    estimates.model("m").seconds = 60.0
    waits = ask()
    assert scheduler.on_request(waits, 1.0) is QUEUED
    assert [scheduler.on_tick(2.0) for _ in range(3)] == [[], [], []]
    assert waits.target == "fast"


@pytest.mark.parametrize("leave", ["cancel", "time out", "queue full", "node removed"])
def test_7_who_leaves_claims_nothing_any_more(leave: str) -> None:
    """A claim of somebody who is gone would keep others away for ever."""
    registry, estimates = fleet("fast", "slow", slots=1), Estimates()
    teach(estimates, registry.nodes["fast"], prefill=1000.0, decode=100.0, load=5.0)
    teach(estimates, registry.nodes["slow"], prefill=10.0, decode=1.0, load=600.0)
    size = 0 if leave == "queue full" else 1
    scheduler = make_scheduler(registry, "expected-latency", estimates=estimates, queue_size=size)
    fast = leased(scheduler.on_request(ask(), 0.0)).node
    waits = ask()
    scheduler.on_request(waits, 1.0)
    if leave == "cancel":
        scheduler.on_cancel(waits)
    elif leave == "time out":
        scheduler.on_tick(61.0)
    elif leave == "node removed":
        registry.remove("fast")
        assert placed(scheduler.on_tick(2.0)) == [(waits, "slow")]
    assert (waits.target, fast.claims - {waits} if leave == "node removed" else fast.claims) == ("", set())


# -- preview


@pytest.mark.parametrize("policy", POLICIES)
def test_a_preview_is_what_would_be_decided_and_changes_nothing(policy: str) -> None:
    """`POST /v0/routing/explain` may be asked as often as one likes."""
    registry = fleet("a", "b", slots=1)
    scheduler = make_scheduler(registry, policy)
    for expected in (2, 1):
        previews = [scheduler.preview(ask(), 1.0) for _ in range(3)]
        assert len({p.decision for p in previews}) == 1
        assert sum(n.has_room() for n in registry) == expected
        assert leased(scheduler.on_request(ask(), 1.0)).node is previews[0].decision
    assert scheduler.preview(ask(), 1.0).decision is QUEUED
    assert (scheduler.waiting, [n.claims for n in registry]) == (0, [set(), set()])


def test_a_preview_shows_a_trial_without_making_it() -> None:
    """The next request is still the one that tries."""
    registry = fleet("a", "b")
    registry.exclude("a", "m", "500", 0.0)
    scheduler = make_scheduler(registry)
    preview = scheduler.preview(ask(), 30.0)
    assert (preview.decision, preview.is_trial) == (registry.nodes["a"], True)
    assert leased(scheduler.on_request(ask(), 30.0)).trial


def test_a_preview_shows_a_refusal() -> None:
    """Of either kind: nobody can, or too many wait."""
    assert isinstance(make_scheduler(fleet("a")).preview(ask("unheard of"), 1.0).decision, ModelNotFound)
    assert isinstance(busy(fleet("a", "b"), queue_size=0).preview(ask(), 1.0).decision, QueueFull)


def test_a_preview_names_whom_the_request_would_wait_for() -> None:
    """And the claim is gone with it."""
    registry, estimates = fleet("fast", "slow", slots=1), Estimates()
    teach(estimates, registry.nodes["fast"], prefill=1000.0, decode=100.0)
    teach(estimates, registry.nodes["slow"], prefill=10.0, decode=1.0, load=60.0)
    occupy(registry.nodes["fast"], since=0.0, until=2.0)
    preview = make_scheduler(registry, "expected-latency", estimates=estimates).preview(ask(), 1.0)
    assert (preview.decision, preview.target) == (QUEUED, registry.nodes["fast"])
    assert not registry.nodes["fast"].claims
