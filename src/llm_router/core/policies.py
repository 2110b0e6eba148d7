"""Which of the nodes that can answer shall do it (requirement D2).

A policy is asked with candidates that list the model, and names one with a free slot, or None: the request waits. It
changes nothing but its own notes on requests and nodes. The scheduler stamps `last_chosen` on the winner, so "least
recently chosen" is what makes equal nodes take turns (requirement B4).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from llm_router.contract import Heartbeat
from llm_router.core.ask import Ask
from llm_router.core.estimates import Estimates
from llm_router.core.latency import ExpectedLatency
from llm_router.core.node import BUSY_CPU, Node

FRESH = 20.0  # seconds; a report that is older says nothing of now (four heartbeats)
PER_REQUEST = 10.0  # points of the `metrics` score for each request in flight (requirement D2)


class Policy(Protocol):
    """What the scheduler asks."""

    def choose(self, ask: Ask, candidates: Sequence[Node], now: float) -> Node | None:
        """Who shall answer now; None: nobody yet."""

    def costs(self, ask: Ask, candidates: Sequence[Node], now: float) -> list[dict[str, float]]:
        """What it weighs, for each candidate: named parts, and `cost`, of which the lowest wins."""


class RoundRobin:
    """Whoever was chosen longest ago."""

    def choose(self, ask: Ask, candidates: Sequence[Node], now: float) -> Node | None:  # noqa: ARG002 - Policy's
        """Take turns."""
        return min((n for n in candidates if n.has_room()), key=_last_chosen, default=None)

    def costs(self, ask: Ask, candidates: Sequence[Node], now: float) -> list[dict[str, float]]:  # noqa: ARG002
        """The cost is the turn at which a node was chosen last."""
        return [{"cost": float(n.last_chosen)} for n in candidates]


class LeastRequests:
    """Whoever has the fewest requests in flight; among equals, whoever was chosen longest ago."""

    def choose(self, ask: Ask, candidates: Sequence[Node], now: float) -> Node | None:  # noqa: ARG002 - Policy's
        """Count requests."""
        return min((n for n in candidates if n.has_room()), key=_requests, default=None)

    def costs(self, ask: Ask, candidates: Sequence[Node], now: float) -> list[dict[str, float]]:  # noqa: ARG002
        """The cost is the number of requests."""
        return [{"cost": float(n.in_flight)} for n in candidates]


class Metrics:
    """The lowest of cpu + memory + gpu + vram (percent) + 10 per request in flight.

    Round robin where all are above 80 % CPU, or nobody has told its figures lately.
    """

    def choose(self, ask: Ask, candidates: Sequence[Node], now: float) -> Node | None:  # noqa: ARG002 - Policy's
        """Read the meters."""
        free = [n for n in candidates if n.has_room()]
        told = [n for n in free if _tells(n, now) and n.report.cpu <= BUSY_CPU]
        if told:
            return min(told, key=_score)
        return min(free, key=_last_chosen, default=None)

    def costs(self, ask: Ask, candidates: Sequence[Node], now: float) -> list[dict[str, float]]:  # noqa: ARG002
        """The parts of the score."""
        return [{"cost": _score(n)[0]} | _parts(n) for n in candidates]


def _tells(node: Node, now: float) -> bool:
    return node.report.memory > 0 and now - node.last_seen <= FRESH  # an attached server has no figures at all


def _parts(node: Node) -> dict[str, float]:
    report = node.report
    requests = PER_REQUEST * node.in_flight
    gpu, vram = _gpu(report), _vram(report)
    return {"cpu": report.cpu, "memory": report.memory, "gpu": gpu, "vram": vram, "requests": requests}


def _score(node: Node) -> tuple[float, int]:
    report = node.report
    score = report.cpu + report.memory + PER_REQUEST * (len(node.leases) + node.elsewhere)
    if report.gpus:
        score += _gpu(report) + _vram(report)
    return score, node.last_chosen


def _gpu(report: Heartbeat) -> float:
    return max((g.utilization for g in report.gpus), default=0.0)


def _vram(report: Heartbeat) -> float:
    return max((100 * g.memory_used / g.memory_total for g in report.gpus if g.memory_total), default=0.0)


def _last_chosen(node: Node) -> int:
    return node.last_chosen


def _requests(node: Node) -> tuple[int, int]:
    return len(node.leases) + node.elsewhere, node.last_chosen


POLICIES: dict[str, Callable[[Estimates, float], Policy]] = {
    "expected-latency": ExpectedLatency,
    "least-requests": lambda _estimates, _decode_weight: LeastRequests(),
    "metrics": lambda _estimates, _decode_weight: Metrics(),
    "round-robin": lambda _estimates, _decode_weight: RoundRobin(),
}


def make_policy(name: str, estimates: Estimates, decode_weight: float) -> Policy:
    """The policy of this name, one of POLICIES."""
    return POLICIES[name](estimates, decode_weight)
