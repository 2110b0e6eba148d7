"""Models that a node would have to fetch first: who is asked to, and who waits for it (issue 8; requirement C1)."""

from tests.core.making import leased, make_scheduler

from llm_router.contract import Address, Heartbeat, ModelEntry, Progress, Registration
from llm_router.core.ask import Ask
from llm_router.core.health import Signal
from llm_router.core.node import Node
from llm_router.core.registry import Registry
from llm_router.core.scheduler import QUEUED, Scheduler
from llm_router.errors import QueueTimeout

FETCHING = Progress("model", "m", "downloading", 42, 100)


def fleet(**stored: bool) -> Registry:
    """Nodes that list `m`, and whether they have it."""
    registry = Registry()
    for number, (name, there) in enumerate(stored.items()):
        message = Registration(name, name, 11435, models_version=1)
        registry.register(name, message, Address(f"10.0.0.{number}", 11435), local=False, now=0.0)
        registry.list_models(name, ("m",), 0.0, [ModelEntry("m", stored=there)])
    return registry


def ask(scheduler: Scheduler, now: float = 1.0, *, tried: str = "") -> Node:
    return leased(scheduler.on_request(Ask("m", now, tried=frozenset(tried.split())), now)).node


def test_who_has_the_model_is_asked_before_who_would_fetch_it() -> None:
    """However busy: a copy is nothing that a request makes by the way."""
    scheduler = make_scheduler(registry := fleet(a=False, b=True, c=False), "round-robin")
    assert {ask(scheduler).id for _ in range(4)} == {"b"}
    assert scheduler.on_request(Ask("m", 1.0), 1.0) is QUEUED
    assert [n.id for n in registry.available()["m"]] == ["b", "a", "c"]


def test_one_fetches_and_everybody_waits_for_it() -> None:
    """Requirement H4: the first request chooses, those after it share its download."""
    scheduler = make_scheduler(registry := fleet(a=False, b=False), "round-robin")
    first = ask(scheduler)
    assert registry.fetcher("m") is first
    assert {ask(scheduler).id for _ in range(3)} == {first.id}
    assert scheduler.on_request(Ask("m", 1.0), 1.0) is QUEUED
    assert first.view().offered == ["m"]


def test_a_request_waits_for_a_download_and_then_for_a_place() -> None:
    """The limit of the queue is one for busy nodes."""
    scheduler = make_scheduler(registry := fleet(a=False), "round-robin", queue_timeout=60.0)
    for _ in range(5):
        scheduler.on_request(Ask("m", 1.0), 1.0)
    assert scheduler.on_tick(1000.0) == []
    registry.arrived(registry.nodes["a"], "m")
    assert scheduler.on_tick(1059.0) == []
    ((_, refusal),) = scheduler.on_tick(1060.0)
    assert isinstance(refusal, QueueTimeout)


def test_who_fails_to_fetch_is_followed_by_another() -> None:
    """Requirement B5; and the one that failed has no claim to it any more when it may be tried again."""
    scheduler = make_scheduler(registry := fleet(a=False, b=False), "round-robin")
    first = ask(scheduler)
    registry.exclude(first.id, "m", "its disk is full", 1.0)
    second = ask(scheduler, tried=first.id)
    assert second is not first
    registry.lift(first.id, "m", "an operator says so")
    assert first not in registry.online["m"]


def test_a_node_that_fetches_by_itself_is_the_one_to_wait_for() -> None:
    """What a node reports counts; and when it has given up, anybody may be asked again."""
    scheduler = make_scheduler(registry := fleet(a=False, b=False), "round-robin")
    registry.heartbeat("b", Heartbeat(models_version=1, progress=[FETCHING]), 1.0)
    assert registry.fetcher("m") is registry.nodes["b"]
    assert registry.nodes["b"].fetch_of("m") == FETCHING
    assert ask(scheduler).id == "b"
    for lease in list(registry.nodes["b"].leases):
        scheduler.on_done(lease, 2.0, failed=False)
    registry.heartbeat("b", Heartbeat(models_version=1), 3.0)
    assert registry.fetcher("m") is None
    assert {n.id for n in registry.offered["m"]} == {"a", "b"}


def test_what_has_arrived_is_there_before_the_list_says_so() -> None:
    """A node that has answered has the model: no other is asked to fetch it in the moment before its list is pulled."""
    scheduler = make_scheduler(registry := fleet(a=False, b=False), "round-robin")
    first = ask(scheduler)
    registry.arrived(first, "m")
    for lease in list(first.leases):
        scheduler.on_done(lease, 2.0, failed=False)
    registry.heartbeat(first.id, Heartbeat(models_version=1), 3.0)
    assert ask(scheduler, 4.0) is first
    assert first.view().offered == []


def test_a_suspect_that_has_it_comes_before_a_download() -> None:
    """It is being looked at this very moment."""
    scheduler = make_scheduler(registry := fleet(a=True, b=False), "round-robin")
    registry.signal("a", Signal.REQUEST_FAILED, 1.0)
    assert ask(scheduler).id == "a"
    registry.signal("a", Signal.SILENT, 1.0)
    assert ask(scheduler).id == "b"
