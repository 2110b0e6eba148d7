"""What would happen to a request now, and why, in words."""

from collections.abc import Iterator

from llm_router.contract import Candidate, Explanation, NotCandidate
from llm_router.core.ask import Ask
from llm_router.core.health import State
from llm_router.core.node import BUSY_CPU, Node
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Preview, Scheduler
from llm_router.errors import RouterError

_STATES = {
    State.PENDING: "it waits for approval",
    State.REGISTERING: "its models are being pulled",
    State.OFFLINE: "it is offline",
    State.SUSPECT: "it is suspect: a request to it failed, and it is being looked at",
}


def explain(registry: Registry, scheduler: Scheduler, policy: str, ask: Ask, now: float) -> Explanation:
    """The decision on this request as `scheduler`, which runs `policy`, would take it."""
    preview = scheduler.preview(ask, now)
    node = preview.decision if isinstance(preview.decision, Node) else None
    refusal = preview.decision if isinstance(preview.decision, RouterError) else None
    return Explanation(
        model=ask.model,
        policy=policy,
        decision="lease" if node else "refuse" if refusal else "queue",
        node_id=node.id if node else "",
        node=node.name if node else "",
        reason=refusal.message if refusal else _why(preview, node),
        code=refusal.code if refusal else "",
        candidates=_candidates(preview, ask.model),
        others=list(_others(registry, preview, node, ask.model, now)),
    )


def _candidates(preview: Preview, model: str) -> list[Candidate]:
    found = [
        Candidate(n.id, n.name, n.slots, n.in_flight, model in n.warm, cost, model not in n.absent)
        for n, cost in zip(preview.candidates, preview.costs, strict=True)
    ]
    return sorted(found, key=lambda c: c.cost["cost"])


def _why(preview: Preview, node: Node | None) -> str:
    if node is None:
        return _why_it_waits(preview)
    if preview.is_trial:
        return "tries again whether the model works there; if it fails, the request moves on"
    costs = {n.id: cost["cost"] for n, cost in zip(preview.candidates, preview.costs, strict=True)}
    if len(costs) == 1:
        return "the only candidate"
    if costs[node.id] <= min(costs.values()):
        return "lowest cost"
    passed_over = [n for n in preview.candidates if costs[n.id] < costs[node.id] and n.has_room()]
    if passed_over and all(n.report.cpu > BUSY_CPU for n in passed_over):
        return f"lowest cost of those that are not above {BUSY_CPU:.0f} % CPU"
    return "about as good as the best, or next best with a free slot, and chosen longest ago"


def _why_it_waits(preview: Preview) -> str:
    target = preview.target
    why = f"waits for '{target.name}', which is expected to be sooner" if target else "every candidate is busy"
    kept = any(_keeps_places(n) for n in ([target] if target else preview.candidates))
    return f"{why}; free places are kept for requests that wait at other replicas" if kept else why


def _keeps_places(node: Node) -> bool:
    """Whether it could run one more, but that one is not ours."""
    return node.in_flight < node.slots and not node.has_room()


def _others(
    registry: Registry, preview: Preview, chosen: Node | None, model: str, now: float
) -> Iterator[NotCandidate]:
    weighed = {n.id for n in preview.candidates}
    for node in registry:
        if node.id not in weighed and node is not chosen:
            yield NotCandidate(node.id, node.name, _why_not(node, model, now))


def _why_not(node: Node, model: str, now: float) -> str:
    if model not in node.models:
        return "it does not list the model"
    if node.settings.drain:
        return "drained by an operator"
    if (exclusion := node.excluded.get(model)) is not None:
        left = max(0.0, exclusion.until - now)
        return f"the model failed there ({exclusion.reason}); it is tried again in {left:.0f} s"
    if node.state is State.ONLINE and model in node.absent:
        return "it would have to fetch the model first, and another has it or is fetching it"
    return _STATES.get(node.state, "it was not drawn among the many that could")
