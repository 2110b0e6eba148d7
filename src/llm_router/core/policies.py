"""Which of the nodes that can answer shall do it.

A policy is a function of the candidates; it changes nothing. The scheduler stamps `last_chosen` on the winner, so
"least recently chosen" is what makes equal nodes take turns (requirement B4).
"""

from collections.abc import Callable, Sequence

from llm_router.core.registry import Node

Policy = Callable[[Sequence[Node]], Node]


def round_robin(candidates: Sequence[Node]) -> Node:
    """Whoever was chosen longest ago."""
    return min(candidates, key=_last_chosen)


def least_requests(candidates: Sequence[Node]) -> Node:
    """Whoever has the fewest requests in flight; among equals, whoever was chosen longest ago."""
    return min(candidates, key=_load)


def _last_chosen(node: Node) -> float:
    return node.last_chosen


def _load(node: Node) -> tuple[int, float]:
    return node.in_flight, node.last_chosen


POLICIES: dict[str, Policy] = {"round-robin": round_robin, "least-requests": least_requests}
