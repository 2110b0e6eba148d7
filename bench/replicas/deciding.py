"""What costs a replica time and nobody else: decisions, and the counts of others, by how many nodes there are."""

import time
from collections.abc import Callable

import msgspec

from bench.replicas.part import node
from bench.replicas.work import timed
from bench.selection.test_selection import NODES, SIZE, fleet, sample
from llm_router.core.ask import Ask
from llm_router.core.elsewhere import Counts, Elsewhere
from llm_router.core.node import Lease
from llm_router.core.registry import Registry

POLICY = "expected-latency"  # the one that is used where no other is asked for
FLEETS = ((1000, 10), (1000, 100), (10_000, 10))  # nodes, and replicas


class Thought(msgspec.Struct, frozen=True):
    """µs of one."""

    what: str
    each: float


def decisions() -> list[Thought]:
    """One request in, one out."""
    return [
        Thought(f"a decision, {NODES} nodes, of which {which} list the model", timed(_decide(everywhere=everywhere)))
        for everywhere, which in ((False, "50"), (True, "all"))
    ]


def _decide(*, everywhere: bool) -> Callable[[], object]:
    scheduler, learned = fleet(POLICY, everywhere=everywhere), sample(3)

    def decide() -> None:
        lease = scheduler.on_request(Ask("m0", 5.0, size=SIZE), 5.0)
        assert isinstance(lease, Lease)
        scheduler.on_done(lease, 6.0, failed=False, sample=learned)

    return decide


def counting() -> list[Thought]:
    """What a replica does four times a second, whatever happens, and each second."""
    return [thought for nodes, replicas in FLEETS for thought in _at_rest(nodes, replicas)]


def _at_rest(nodes: int, replicas: int) -> list[Thought]:
    registry, elsewhere = _known(nodes, replicas)
    waiting = {"model-0:8b": 3}
    about = f"{nodes} nodes, {replicas} replicas"
    return [
        Thought(f"a tick of counts, {about}", timed(lambda: _tick(elsewhere, replicas, {}))),
        Thought(f"a tick of counts, requests wait at all, {about}", timed(lambda: _tick(elsewhere, replicas, waiting))),
        Thought(f"own counts, {about}", timed(elsewhere.own)),
        Thought(f"own counts, whole, {about}", timed(lambda: elsewhere.own(whole=True))),
        Thought(f"silence looked for, {about}", timed(lambda: registry.tick(time.monotonic()))),
    ]


def _known(nodes: int, replicas: int) -> tuple[Registry, Elsewhere]:
    """A registry, and what all other replicas have told of all of it."""
    registry = Registry(silence=1e9)
    for number in range(nodes):
        registry.add(node(number), time.monotonic())
    elsewhere = Elsewhere(registry, "self", dict)
    for other in range(1, replicas):
        told = {id_: (1 if n % 10 == other % 10 else 0, 1000 + n, 0, 0) for n, id_ in enumerate(registry.nodes)}
        elsewhere.heard(f"other-{other}", Counts(told, {}), time.monotonic())
    return registry, elsewhere


def _tick(elsewhere: Elsewhere, replicas: int, waiting: dict[str, int]) -> None:
    """With a sign of life from each, so that none falls silent: it is a small part of it."""
    now = time.monotonic()
    for other in range(1, replicas):
        elsewhere.heard(f"other-{other}", Counts({}, waiting), now)
    elsewhere.tick(now)
