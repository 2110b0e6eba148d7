"""What other replicas have on our nodes, and how many places there are ours (design.md §1; requirement E1)."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.making import POLICIES, fleet, leased, make_node, make_scheduler, occupy, placed
from tests.core.replicas import World

from llm_router.contract import NodeSettings
from llm_router.core.ask import Ask
from llm_router.core.elsewhere import KEPT, SILENT, TURN, Counts, Elsewhere
from llm_router.core.registry import Registry

NOTIFY = 8000  # bytes; PostgreSQL's documentation of NOTIFY: a payload has to be shorter


def beside(registry: Registry) -> Elsewhere:
    """What replica `b` knows of others; nobody waits there."""
    return Elsewhere(registry, "b", dict)


def news(waiting: dict[str, int] | None = None, **nodes: tuple[int, ...]) -> Counts:
    """Of these nodes: in flight, done, failed, claims."""
    return Counts({name: (*counts, 0, 0, 0, 0)[:4] for name, counts in nodes.items()}, waiting)  # type: ignore[misc]


def places(registry: Registry) -> list[int]:
    return [node.places for node in registry]


# -- what they have


def test_alone_all_slots_are_ours() -> None:
    """In a single process there is nothing else, whatever the number of slots becomes."""
    registry = fleet("a", slots=4)
    node = registry.nodes["a"]
    for slots in (2, 0, 6):
        node.resize(slots)
        assert (node.slots, node.places, node.elsewhere) == (slots, slots, 0)
    assert beside(registry).tick(9.0) is False


def test_what_others_have_there_is_not_ours() -> None:
    """At once, and of all that are heard; fewer than none where they have more than the node runs."""
    registry = fleet("a", "c", slots=4)
    elsewhere = beside(registry)
    elsewhere.heard("x", news(a=(1,), c=(4,)), 0.0)
    elsewhere.heard("y", news(a=(2,), c=(2,)), 0.0)
    assert places(registry) == [1, -2]
    elsewhere.heard("x", news(a=(0,)), 0.1)
    assert places(registry) == [2, -2]


def test_room_is_told_once_so_that_who_waits_is_offered_it() -> None:
    """Rule 2 of the scheduler, no lost wake-up; a place more where there is room already wakes nobody."""
    registry = fleet("a", slots=2)
    scheduler, elsewhere = make_scheduler(registry), beside(registry)
    assert elsewhere.heard("x", news(a=(2,)), 0.0) is False
    waits = Ask("m", 0.0)
    scheduler.on_request(waits, 0.0)
    assert elsewhere.heard("x", news(a=(1,)), 1.0) is True
    assert placed(scheduler.on_tick(1.0)) == [(waits, "a")]
    assert elsewhere.heard("x", news(a=(0,)), 2.0) is True
    registry.nodes["a"].leases.clear()
    assert elsewhere.heard("x", news(a=(0, 9)), 3.0) is False


def test_counts_shown_are_those_of_all_replicas() -> None:
    """Requirement F1: whichever replica is asked."""
    registry = fleet("a")
    scheduler, elsewhere = make_scheduler(registry), beside(registry)
    scheduler.on_done(leased(scheduler.on_request(Ask("m", 0.0), 0.0)), 1.0, failed=False)
    scheduler.on_request(Ask("m", 0.0), 0.0)
    elsewhere.heard("x", news(a=(1, 10, 100)), 0.0)
    elsewhere.heard("y", news(a=(1, 10, 100)), 0.0)
    view = registry.nodes["a"].view()
    assert (view.in_flight, view.done, view.failed, view.slots) == (3, 21, 200, 4)


def test_the_silent_have_nothing_in_flight() -> None:
    """After SILENT seconds without a word; what they did stays done, and is not done twice when they come back."""
    registry = fleet("a", slots=1)
    elsewhere = beside(registry)
    elsewhere.heard("x", news(a=(1, 5)), 10.0)
    assert elsewhere.tick(10.0 + SILENT) is False
    assert elsewhere.tick(10.1 + SILENT) is True
    assert (elsewhere.replicas, places(registry), registry.nodes["a"].counts()) == ([], [1], (0, 5, 0))
    elsewhere.heard("x", news(a=(1, 6)), 20.0)
    assert (elsewhere.replicas, places(registry), registry.nodes["a"].counts()) == (["x"], [0], (1, 6, 0))


def test_who_says_goodbye_is_gone_at_once() -> None:
    """One that comes by the same name is another, and counts anew; so is one that began anew without a goodbye."""
    registry = fleet("a", slots=1)
    elsewhere = beside(registry)
    elsewhere.heard("x", news(a=(1, 5)), 0.0)
    assert elsewhere.gone("x", 0.1) is True
    assert elsewhere.gone("x", 0.1) is False
    elsewhere.heard("x", news(a=(0, 2)), 0.2)
    assert registry.nodes["a"].counts() == (0, 7, 0)
    elsewhere.heard("x", news(a=(1, 1)), 0.3)
    assert registry.nodes["a"].counts() == (1, 8, 0)


def test_replicas_that_never_come_back_are_forgotten() -> None:
    """One that crashes again and again, and has another name each time, costs no memory."""
    elsewhere = beside(fleet("a"))
    for i in range(3 * KEPT):
        elsewhere.heard(f"x{i}", news(a=(1, 1)), float(10 * i))
        elsewhere.tick(float(10 * i))
    assert len(elsewhere._others) <= KEPT + 1  # noqa: SLF001 - what it keeps is the point


def test_an_unknown_node_is_counted_once_it_is_known() -> None:
    """Its row comes by another way; a removed one is another when it comes back."""
    registry = fleet("a", slots=4)
    elsewhere = beside(registry)
    elsewhere.heard("x", news(new=(1,), a=(1,)), 0.0)
    registry.add(make_node("new"), 0.1)
    assert places(registry) == [3, 4]
    elsewhere.heard("x", news(new=(1,)), 0.2)
    assert places(registry) == [3, 3]
    registry.remove("new")
    elsewhere.tick(0.3)
    registry.add(make_node("new"), 0.4)
    elsewhere.heard("x", news(new=(2,)), 0.5)
    assert places(registry) == [3, 2]


def test_our_own_words_are_not_anothers() -> None:
    """They come back to us as to all."""
    registry = fleet("a")
    assert beside(registry).heard("b", news(a=(4,)), 0.0) is False
    assert places(registry) == [4]


# -- what we tell


def test_what_changed_is_told_or_all() -> None:
    """The first time all; then what is other, and a sign of life at least."""
    registry = fleet("a", "c")
    elsewhere = beside(registry)
    nothing = (0, 0, 0, 0)
    assert elsewhere.own() == [Counts({"a": nothing, "c": nothing}, {})]
    occupy(registry.nodes["a"], times=2)
    registry.nodes["a"].done = 7
    assert elsewhere.own() == [Counts({"a": (2, 7, 0, 0)}, {})]
    assert elsewhere.own() == [Counts({}, {})]
    assert elsewhere.own(whole=True) == [Counts({"a": (2, 7, 0, 0), "c": nothing}, {})]


def test_who_waits_is_told_with_the_node_or_the_model() -> None:
    """A claim is for one node; the others take any that can."""
    registry = fleet("a")
    ask = Ask("m", 0.0)
    registry.nodes["a"].claims.add(ask)
    (told,) = Elsewhere(registry, "b", lambda: {"m": 1, "n": 2}).own()
    assert told == Counts({"a": (0, 0, 0, 1)}, {"n": 2})


def test_a_message_is_as_short_as_notify_wants_it() -> None:
    """A thousand nodes, all new, and a queue for each of a hundred models: nothing is left out but short queues."""
    ids = [f"{i:036}" for i in range(1000)]
    registry = fleet(*ids)
    for node in registry:
        node.done = node.failed = 10**9
    elsewhere = Elsewhere(registry, "b", lambda: {f"{i:060}": i + 1 for i in range(100)})
    messages = elsewhere.own(whole=True)
    assert max(len(msgspec.json.encode(message)) for message in messages) < NOTIFY - 500  # for what goes around it
    assert [name for message in messages for name in message.nodes] == ids
    assert max(messages[0].waiting or ()) == f"{99:060}"
    assert all(message.waiting is None for message in messages[1:])


# -- our share


def test_while_others_wait_we_have_no_more_than_our_share() -> None:
    """Of a node for which they wait, by the model or by itself; it ends when they wait no more."""
    registry = fleet("a", make_node("c", ("n",)), slots=4)
    elsewhere = beside(registry)
    elsewhere.heard("x", news({"m": 3}), 0.0)
    elsewhere.tick(0.0)
    assert places(registry) == [2, 4]
    elsewhere.heard("x", news({}, c=(1, 0, 0, 1)), 0.1)
    elsewhere.tick(0.1)
    assert places(registry) == [4, 2]
    elsewhere.heard("x", news({}, c=(1,)), 0.2)
    elsewhere.tick(0.2)
    assert elsewhere.tick(9.0) is False
    assert places(registry) == [4, 4]


def test_nothing_is_taken_away_that_we_have() -> None:
    """It comes free when the request ends, and then it is another's."""
    registry = fleet("a", slots=2)
    scheduler, elsewhere = make_scheduler(registry), beside(registry)
    leases = [leased(scheduler.on_request(Ask("m", 0.0), 0.0)) for _ in range(2)]
    scheduler.on_request(Ask("m", 1.0), 1.0)
    elsewhere.heard("x", news({"m": 1}), 1.0)
    elsewhere.tick(1.0)
    assert (registry.nodes["a"].leases, places(registry)) == (set(leases), [1])
    assert scheduler.on_done(leases[0], 2.0, failed=False) == []
    assert len(scheduler.on_done(leases[1], 2.0, failed=False)) == 1


@pytest.mark.parametrize("why", ["not listed", "excluded", "drained", "offline"])
def test_who_waits_for_what_a_node_cannot_run_does_not_wait_for_it(why: str) -> None:
    """Nor for a suspect or a node that would have to fetch the model, where another can at once."""
    registry = fleet("a", make_node("c", ("n",)), models=("m", "n"))
    if why == "not listed":
        registry.list_models("a", ["n"], 0.0)
    elif why == "excluded":
        registry.exclude("a", "m", "500", 0.0)
    elif why == "drained":
        registry.configure("a", NodeSettings(drain=True, changed=1.0))
    else:
        registry.remove("a")
    elsewhere = beside(registry)
    elsewhere.heard("x", news({"m": 3}), 0.0)
    elsewhere.tick(0.0)
    assert all(node.places == node.slots for node in registry)


def test_who_was_served_longest_ago_is_next() -> None:
    """One slot: whose request ended makes way; who waits gets it, and then it is the other's turn again."""
    registry = fleet("a", slots=1)
    scheduler, elsewhere = make_scheduler(registry), beside(registry)
    lease = leased(scheduler.on_request(Ask("m", 0.0), 0.0))
    elsewhere.heard("x", news({"m": 1}), 0.5)
    elsewhere.tick(0.5)
    waits = Ask("m", 1.0)
    scheduler.on_request(waits, 1.0)
    elsewhere.tick(0.5 + TURN)
    assert scheduler.on_done(lease, 5.0, failed=False) == []
    elsewhere.heard("x", news({"m": 1}, a=(1,)), 5.2)
    assert elsewhere.tick(5.25) is False
    elsewhere.heard("x", news({"m": 1}, a=(0, 1)), 9.0)
    assert places(registry) == [1]
    assert placed(scheduler.on_tick(9.0)) == [(waits, "a")]


def test_a_place_that_its_owner_does_not_take_is_offered_to_the_next() -> None:
    """It waits for another node, or its message was lost: nothing stays free for longer than a turn."""
    registry = fleet("a", slots=1)
    scheduler, elsewhere = make_scheduler(registry), beside(registry)
    scheduler.on_done(leased(scheduler.on_request(Ask("m", 0.0), 0.0)), 0.5, failed=False)
    found = []
    for quarter in range(8):
        elsewhere.heard("x", news({"m": 1}), quarter / 4)
        found.append(elsewhere.tick(quarter / 4))
    assert found == [False, False, False, False, True, False, False, False]


def test_what_nobody_takes_is_anybodys() -> None:
    """Those who wait cannot use this node, for a reason that only they know: then it serves those who can."""
    registry = fleet("a", slots=4)
    elsewhere = beside(registry)
    found = []
    for second in range(4):
        elsewhere.heard("x", news({"m": 1}), float(second))
        elsewhere.tick(float(second))
        found += places(registry)
    assert found == [2, 2, 4, 4]


# -- several replicas before the same nodes


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(2, 4),
    slots=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    policy=st.sampled_from(POLICIES),
    load=st.sampled_from([0.7, 1.5]),
)
def test_slots_are_exceeded_by_no_more_than_what_nobody_could_know(
    seed: int, replicas: int, slots: list[int], policy: str, load: float
) -> None:
    """At every grant (`World` looks); and in the end all are answered."""
    random = Random(seed)  # noqa: S311 - nobody guesses it
    world = World(random, {f"n{i}": count for i, count in enumerate(slots)}, replicas, policy)
    for replica in world.replicas:
        when = 0.0
        while (when := when + random.expovariate(load * sum(slots) / replicas)) < 15.0:
            world.ask(when, replica, random.uniform(0.2, 1.8))
    world.run(100.0)
    assert world.waiting == 0
    assert not any(node.leases for replica in world.replicas for node in replica.registry)


@pytest.mark.parametrize("policy", ["expected-latency", "round-robin"])
@pytest.mark.parametrize("seconds", [0.2, 1.0, 2.0, 3.0])
@pytest.mark.parametrize(("replicas", "slots"), [(2, 1), (3, 1), (3, 2), (4, 3)])
def test_nobody_starves(policy: str, seconds: float, replicas: int, slots: int) -> None:
    """While all have requests waiting, none is ahead by more than two rounds of turns, however long requests take.

    Those that are all as long fall in step with whatever goes round by the clock.
    """
    world = World(Random(replicas), {"n": slots}, replicas, policy)  # noqa: S311 - nobody guesses it
    for replica in world.replicas:
        for _ in range(int(20 / min(1.0, seconds))):
            world.ask(0.0, replica, seconds)
    a_turn = max(1.0, (TURN + 0.25) / seconds)  # requests one after another, on one slot
    while all(replica.scheduler.waiting for replica in world.replicas) or world.now == 0.0:
        world.run(world.now + 0.25)
        served = [replica.served for replica in world.replicas]
        assert max(served) - min(served) <= 2 * slots * (a_turn + 1)
