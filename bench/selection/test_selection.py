"""What a decision costs among 1,000 nodes: `make bench-selection`.

Aims (requirement D4): 50 µs where each node has 20 of 400 models, so that some 50 list the one that is asked for; 1 ms
where all list it. Measured are `on_request` and `on_done` of one request, with half of the slots taken and a prompt of
4 kB; the guard is wide, for slow machines.
"""

from collections.abc import Callable
from typing import Any

import pytest

from llm_router.contract import Address, Heartbeat
from llm_router.core.ask import Ask
from llm_router.core.estimates import Estimates
from llm_router.core.node import EVERY_DIALECT, Lease, Node
from llm_router.core.policies import POLICIES, make_policy
from llm_router.core.rates import Sample
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Scheduler

NODES, MODELS_EACH, MODELS = 1_000, 20, 400
SLOTS = 4
SIZE = 4_096  # bytes of the prompt
GUARD = 0.01  # seconds

Benchmark = Callable[..., Any]


def fleet(policy: str, *, everywhere: bool) -> Scheduler:
    """1,000 nodes that have answered already: three of the models of each are in memory, two requests under way."""
    registry, estimates = Registry(), Estimates()
    scheduler = Scheduler(registry, make_policy(policy, estimates, 0.3), estimates)
    for i in range(NODES):
        models = [f"m{(i + k * MODELS // MODELS_EACH) % MODELS}" for k in range(MODELS_EACH)]
        if everywhere:
            models = ["m0", *(m for m in models if m != "m0")]
        node = Node(f"n{i}", f"n{i}", "ollama", Address("10.0.0.1", 1), dialects=EVERY_DIALECT, slots=SLOTS)
        registry.add(node, 0.0)
        registry.list_models(node.id, models, 0.0)
        registry.heartbeat(node.id, Heartbeat(loaded=models[:3], cpu=30.0, memory=50.0), 0.0)
        for model in models[:3]:
            warm(scheduler, node, model, speed=1 + i % 7)
    return scheduler


def warm(scheduler: Scheduler, node: Node, model: str, speed: int) -> None:
    """A request answered there, and another one under way."""
    for done in (True, False):
        lease = Lease(node, Ask(model, 0.0, size=SIZE), 0.0)
        lease.until = 10.0
        node.leases.add(lease)
        if done:
            scheduler.on_done(lease, 1.0, failed=False, sample=sample(speed))
        elif len(node.leases) > SLOTS // 2:
            node.leases.discard(lease)


def sample(speed: int) -> Sample:
    """1,000 tokens of prompt, 200 of answer."""
    return Sample(1000, 200, 1000, 1 / speed, 4 / speed, 0.0, 1 / speed, 5 / speed, streamed=True)


@pytest.mark.parametrize("everywhere", [False, True], ids=["50 nodes list it", "1,000 nodes list it"])
@pytest.mark.parametrize("policy", POLICIES)
def test_decision(benchmark: Benchmark, policy: str, *, everywhere: bool) -> None:
    """One request in, one out."""
    scheduler = fleet(policy, everywhere=everywhere)
    learned = sample(3)

    def decide() -> None:
        lease = scheduler.on_request(Ask("m0", 5.0, size=SIZE), 5.0)
        assert isinstance(lease, Lease)
        scheduler.on_done(lease, 6.0, failed=False, sample=learned)

    benchmark(decide)
    assert benchmark.stats.stats.median < GUARD  # type: ignore[attr-defined]  # it is a fixture with attributes
