"""Which of the nodes that can answer shall do it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.core.policies import POLICIES, Policy, least_requests, round_robin
from llm_router.core.registry import Node

LOADS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=8)


def nodes(loads: list[tuple[int, int]]) -> list[Node]:
    """Nodes with these (in_flight, last_chosen)."""
    made = []
    for i, (in_flight, last_chosen) in enumerate(loads):
        node = Node(f"n{i}", f"n{i}", "agent", None, dialects=frozenset())
        node.in_flight, node.last_chosen = in_flight, last_chosen
        made.append(node)
    return made


@given(LOADS)
def test_round_robin_takes_who_waited_longest(loads: list[tuple[int, int]]) -> None:
    """However busy, the node whose last turn is longest ago is next."""
    candidates = nodes(loads)
    assert round_robin(candidates).last_chosen == min(n.last_chosen for n in candidates)


@given(LOADS)
def test_least_requests_takes_the_idlest(loads: list[tuple[int, int]]) -> None:
    """Nobody with more in flight is chosen; among equals, whoever waited longest."""
    candidates = nodes(loads)
    chosen = least_requests(candidates)
    least = min(n.in_flight for n in candidates)
    assert chosen.in_flight == least
    assert chosen.last_chosen == min(n.last_chosen for n in candidates if n.in_flight == least)


@pytest.mark.parametrize("policy", POLICIES.values())
def test_a_policy_changes_nothing(policy: Policy) -> None:
    """Choosing twice chooses the same node, and leaves all of them as they were."""
    candidates = nodes([(1, 2), (0, 3), (0, 1)])
    assert policy(candidates) is policy(candidates)
    assert [(n.in_flight, n.last_chosen) for n in candidates] == [(1, 2), (0, 3), (0, 1)]
