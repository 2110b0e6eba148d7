"""Which of the nodes that can answer shall do it (requirement D2); `expected-latency` has its own tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.making import DECODE_WEIGHT, POLICIES, make_node, occupy

from llm_router.contract import Gpu, Heartbeat
from llm_router.core.ask import Ask
from llm_router.core.estimates import Estimates
from llm_router.core.node import Node
from llm_router.core.policies import FRESH, LeastRequests, Metrics, Policy, RoundRobin, make_policy

SLOTS = 4
LOADS = st.lists(st.tuples(st.integers(0, SLOTS), st.integers(0, 5)), min_size=1, max_size=8)
NOW = 1.0


def nodes(loads: list[tuple[int, int]]) -> list[Node]:
    """Nodes with these (in_flight, last_chosen)."""
    made = []
    for i, (in_flight, last_chosen) in enumerate(loads):
        node = make_node(f"n{i}", slots=SLOTS)
        occupy(node, times=in_flight)
        node.last_chosen = last_chosen
        made.append(node)
    return made


def choose(policy: Policy, candidates: list[Node], now: float = NOW) -> Node | None:
    return policy.choose(Ask("m", now), candidates, now)


@given(LOADS)
def test_round_robin_takes_who_waited_longest(loads: list[tuple[int, int]]) -> None:
    """Of those with a free slot, however busy, the node whose last turn is longest ago is next."""
    candidates = nodes(loads)
    chosen = choose(RoundRobin(), candidates)
    free = [n for n in candidates if n.has_room()]
    assert (chosen.last_chosen if chosen else None) == min((n.last_chosen for n in free), default=None)
    assert chosen is None or chosen in free


@given(LOADS)
def test_least_requests_takes_the_idlest(loads: list[tuple[int, int]]) -> None:
    """Nobody with more in flight is chosen; among equals, whoever waited longest."""
    candidates = nodes(loads)
    chosen = choose(LeastRequests(), candidates)
    free = [n for n in candidates if n.has_room()]
    assert (chosen is None) == (not free)
    if chosen is not None:
        assert (chosen.in_flight, chosen.last_chosen) == min((n.in_flight, n.last_chosen) for n in free)


@pytest.mark.parametrize("name", POLICIES)
@given(loads=LOADS)
def test_a_policy_never_names_a_full_node(name: str, loads: list[tuple[int, int]]) -> None:
    """A place that is not there is not given; where there is one, somebody gets it or waits for a better one."""
    candidates, ask = nodes(loads), Ask("m", NOW)
    chosen = make_policy(name, Estimates(), DECODE_WEIGHT).choose(ask, candidates, NOW)
    if chosen is not None:
        assert chosen.has_room()
    elif any(n.has_room() for n in candidates):
        assert ask.target


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_changes_nothing(name: str) -> None:
    """Choosing twice chooses the same node, and leaves all of them as they were."""
    policy = make_policy(name, Estimates(), DECODE_WEIGHT)
    candidates = nodes([(1, 2), (0, 3), (0, 1)])
    assert choose(policy, candidates) is choose(policy, candidates)
    assert [(n.in_flight, n.last_chosen) for n in candidates] == [(1, 2), (0, 3), (0, 1)]
    assert not any(n.claims for n in candidates)


@pytest.mark.parametrize("name", POLICIES)
def test_the_lowest_cost_wins(name: str) -> None:
    """Requirement D2: what a policy shows is what it goes by."""
    policy = make_policy(name, Estimates(), DECODE_WEIGHT)
    candidates = nodes([(1, 3), (2, 2), (0, 1)])
    for node, cpu in zip(candidates, (30.0, 60.0, 10.0), strict=True):
        node.report = Heartbeat(cpu=cpu, memory=1.0)
    costs = [cost["cost"] for cost in policy.costs(Ask("m", NOW), candidates, NOW)]
    assert choose(policy, candidates) is candidates[2]
    assert costs[2] == min(costs)


def test_there_is_no_other_policy() -> None:
    """A name that is none is a mistake of the caller's: settings are checked where they are read."""
    with pytest.raises(KeyError):
        make_policy("fastest", Estimates(), DECODE_WEIGHT)


# -- metrics


def metered(node_id: str, *, in_flight: int = 0, last_chosen: int = 0, **figures: object) -> Node:
    node = make_node(node_id)
    occupy(node, times=in_flight)
    node.last_chosen = last_chosen
    node.report = Heartbeat(**figures)  # type: ignore[arg-type]  # a test names each with its own type
    return node


def test_the_score_is_the_sum_that_was_promised() -> None:
    """Requirement D2: cpu + mem + gpu + vram + 10 x active, all in percent."""
    gpu = Gpu("H200", memory_total=100, memory_used=40, utilization=30.0)
    node = metered("a", in_flight=2, cpu=10.0, memory=20.0, gpus=[gpu])
    (cost,) = Metrics().costs(Ask("m", NOW), [node], NOW)
    assert cost == {"cost": 120.0, "cpu": 10.0, "memory": 20.0, "gpu": 30.0, "vram": 40.0, "requests": 20.0}


def test_of_several_gpus_the_busiest_counts() -> None:
    """Each figure by itself; one that tells no memory, as Metal's, has none in use."""
    gpus = [Gpu("one", 100, 90, 5.0), Gpu("two", 100, 10, 70.0), Gpu("three", 0, 0, 0.0)]
    (cost,) = Metrics().costs(Ask("m", NOW), [metered("a", memory=1.0, gpus=gpus)], NOW)
    assert (cost["gpu"], cost["vram"]) == (70.0, 90.0)


def test_the_lowest_score_is_chosen() -> None:
    """Requirement D2: ten points of anything are as good as one request less."""
    calm = metered("calm", in_flight=1, last_chosen=9, cpu=20.0, memory=20.0)
    busy = metered("busy", cpu=31.0, memory=20.0)
    assert choose(Metrics(), [busy, calm]) is calm


def test_a_machine_above_eighty_percent_is_left_alone() -> None:
    """Requirement D1: whatever its score, while another can."""
    busy = metered("busy", cpu=80.1, memory=1.0)
    full = metered("full", cpu=80.0, memory=90.0, gpus=[Gpu("g", 100, 90, 90.0)])
    assert choose(Metrics(), [busy, full]) is full


def test_a_busy_machine_is_used_when_the_calm_ones_are_full() -> None:
    """Requirement D1: only when no other can, but then it is."""
    busy = metered("busy", cpu=99.0, memory=1.0)
    full = metered("full", in_flight=4, cpu=1.0, memory=1.0)
    assert choose(Metrics(), [busy, full]) is busy


def test_all_machines_busy_take_turns() -> None:
    """Requirement D2: all above 80 % CPU -> round robin."""
    first = metered("first", last_chosen=1, cpu=99.0, memory=99.0)
    second = metered("second", last_chosen=2, cpu=81.0, memory=1.0)
    assert choose(Metrics(), [second, first]) is first


def test_figures_of_long_ago_count_for_nothing() -> None:
    """Requirement D2: no fresh figures -> round robin."""
    first = metered("first", last_chosen=1, cpu=70.0, memory=90.0)
    second = metered("second", last_chosen=2, cpu=1.0, memory=1.0)
    assert choose(Metrics(), [second, first], now=FRESH) is second
    assert choose(Metrics(), [second, first], now=FRESH + 0.1) is first


def test_servers_that_tell_no_figures_take_turns() -> None:
    """Requirement D2: an attached server has no agent that could tell."""
    first, second = metered("first", last_chosen=1), metered("second", last_chosen=2)
    assert choose(Metrics(), [second, first]) is first


def test_equal_scores_take_turns() -> None:
    """Requirement D3: idle equals share work evenly."""
    first = metered("first", last_chosen=1, cpu=5.0, memory=5.0)
    second = metered("second", last_chosen=2, cpu=5.0, memory=5.0)
    assert choose(Metrics(), [second, first]) is first


@pytest.mark.parametrize("policy", ["least-requests", "metrics"])
def test_requests_at_other_replicas_count_as_ours_do(policy: str) -> None:
    """It is the node's load that these policies are about, whoever sent it."""
    full, other = metered("full", cpu=10.0, memory=10.0), metered("other", in_flight=1, cpu=10.0, memory=10.0)
    full.elsewhere = 2
    full.allot(2)
    chosen = make_policy(policy, Estimates(), DECODE_WEIGHT)
    assert chosen.choose(Ask("m", 1.0), [full, other], 1.0) is other
    costs = [cost["cost"] for cost in chosen.costs(Ask("m", 1.0), [full, other], 1.0)]
    assert costs[0] > costs[1]
