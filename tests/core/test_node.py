"""What is shown of a node (requirement F1)."""

import pytest
from tests.core.making import fleet, leased, make_scheduler

from llm_router.contract import Address, Registration
from llm_router.core.ask import Ask
from llm_router.core.health import Signal
from llm_router.core.registry import Registry


def registered(now: float) -> Registry:
    registry = Registry()
    message = Registration("n", "box", 1, version="1.2.3")
    registry.register("n", message, Address("h", 1), local=False, now=now)
    return registry


def test_a_node_says_what_it_is() -> None:
    """The machine's own name and the agent's version, whatever operators call it."""
    view = registered(0.0).nodes["n"].view()
    assert (view.machine, view.version) == ("box", "1.2.3")


def test_uptime_counts_from_when_a_node_came_online() -> None:
    """A moment of suspicion does not start it anew; being offline does, and has none."""
    registry = registered(10.0)
    node = registry.nodes["n"]
    assert node.view().since == 0.0
    registry.list_models("n", ["m"], 11.0)
    for signal, now, since in (
        (Signal.HEARTBEAT, 12.0, 11.0),
        (Signal.REQUEST_FAILED, 13.0, 11.0),
        (Signal.PROBE_OK, 14.0, 11.0),
        (Signal.GOODBYE, 15.0, 0.0),
        (Signal.REGISTERED, 16.0, 0.0),
        (Signal.MODELS_PULLED, 17.0, 17.0),
    ):
        registry.signal("n", signal, now)
        assert node.view().since == since, signal


def test_latency_is_that_of_the_latest_answers() -> None:
    """From the lease on: what a request waited in the queue is not the node's; what failed is no answer."""
    registry = fleet("a")
    scheduler, node = make_scheduler(registry), registry.nodes["a"]
    now = 0.0
    for seconds, failed, latency in ((2.0, False, 2.0), (9.0, True, 2.0), (3.0, False, 2.1)):
        lease = leased(scheduler.on_request(Ask("m", now), now))
        now += seconds
        scheduler.on_done(lease, now, failed=failed)
        assert node.view().latency == pytest.approx(latency)


def test_the_queues_can_be_seen() -> None:
    """How many wait for each model; none that nobody waits for."""
    scheduler = make_scheduler(fleet("a", slots=1))
    assert scheduler.queued() == {}
    for now in (0.0, 1.0, 2.0):
        scheduler.on_request(Ask("m", now), now)
    assert scheduler.queued() == {"m": 2}
