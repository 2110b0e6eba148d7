"""`python -m bench.fleet.warm_first serve …`: our router with a reference in place of one of its policies.

The reference is what a careful operator would write: the least busy of the nodes that have the model in memory and a
free slot, else the least busy of all with a free slot. It is no policy that the router offers, so it answers to the
name of round-robin in this process.
"""

from collections.abc import Sequence

from llm_router.cli import main
from llm_router.core.ask import Ask
from llm_router.core.node import Node
from llm_router.core.policies import POLICIES

STANDS_IN_FOR = "round-robin"


class WarmFirst:
    """See above."""

    def choose(self, ask: Ask, candidates: Sequence[Node], now: float) -> Node | None:  # noqa: ARG002 - Policy's
        """The least busy, where the model is in memory if it can be."""
        free = [n for n in candidates if n.has_room()]
        warm = [n for n in free if ask.model in n.warm]
        return min(warm or free, key=_busy, default=None)

    def costs(self, ask: Ask, candidates: Sequence[Node], now: float) -> list[dict[str, float]]:  # noqa: ARG002
        """Share of the slots in use, and one more where the model is not in memory."""
        return [{"cost": _busy(n)[0] + (ask.model not in n.warm)} for n in candidates]


def _busy(node: Node) -> tuple[float, int]:
    return node.in_flight / node.slots, node.last_chosen


if __name__ == "__main__":
    POLICIES[STANDS_IN_FOR] = lambda _estimates, _decode_weight: WarmFirst()
    main()
