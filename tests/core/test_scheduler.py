"""Who gets a request."""

from collections import Counter

import pytest

from llm_router.core.health import Signal, State
from llm_router.core.policies import POLICIES
from llm_router.core.registry import Node, Registry
from llm_router.core.scheduler import Lease, Scheduler
from llm_router.errors import AllNodesOffline, ModelNotFound, NoCapableNodes, NoNodes, RouterError


def fleet(*ids: str, models: tuple[str, ...] = ("m",)) -> Registry:
    registry = Registry()
    for node_id in ids:
        registry.add(Node(node_id, node_id, "agent", None, dialects=frozenset()), now=0.0)
        registry.list_models(node_id, models, now=0.0)
    return registry


def scheduler(registry: Registry, policy: str = "least-requests") -> Scheduler:
    return Scheduler(registry, POLICIES[policy])


def lease(decision: Lease | RouterError) -> Lease:
    assert isinstance(decision, Lease)
    return decision


def serve(scheduler: Scheduler, times: int) -> Counter[str]:
    """Ask one after another; count who answered."""
    answered: Counter[str] = Counter()
    for _ in range(times):
        given = lease(scheduler.on_request("m", 0.0))
        answered[given.node.id] += 1
        scheduler.on_done(given, failed=False)
    return answered


def test_without_a_node_there_is_none_to_ask() -> None:
    """Requirement B3: an empty router says so."""
    assert isinstance(scheduler(Registry()).on_request("m", 0.0), NoNodes)


def test_all_nodes_offline_is_said_as_such() -> None:
    """Requirement B3: nodes are known, all are away; that comes before whether anybody knows the model."""
    registry = fleet("a", "b")
    for node_id in ("a", "b"):
        registry.signal(node_id, Signal.GOODBYE, 0.0)
    assert isinstance(scheduler(registry).on_request("m", 0.0), AllNodesOffline)
    assert isinstance(scheduler(registry).on_request("unheard of", 0.0), AllNodesOffline)


def test_a_model_nobody_lists_is_not_found() -> None:
    """Requirement B3: 404, with the name that was asked for."""
    refusal = scheduler(fleet("a")).on_request("unheard of", 0.0)
    assert isinstance(refusal, ModelNotFound)
    assert "unheard of" in refusal.message


def test_a_known_model_on_nodes_that_are_away_can_be_had_later() -> None:
    """Requirement B3: known, but no online node can run it now."""
    registry = fleet("a", "b")
    registry.list_models("b", ("other",), 0.0)
    registry.signal("b", Signal.GOODBYE, 0.0)
    assert isinstance(scheduler(registry).on_request("other", 0.0), NoCapableNodes)


def test_only_nodes_that_list_the_model_are_asked() -> None:
    """Requirement C5."""
    registry = fleet("a", "b", "c")
    registry.list_models("a", ("other",), 0.0)
    assert set(serve(scheduler(registry), 6)) == {"b", "c"}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("requests", "least", "most"), [(9, 3, 3), (30, 9, 11), (10, 2, 5)])
def test_three_equal_nodes_take_turns(policy: str, requests: int, least: int, most: int) -> None:
    """Requirement B4: 9 requests in a row are 3 each, 30 are about 10 each, 10 are 2 to 5 each."""
    answered = serve(scheduler(fleet("a", "b", "c"), policy), requests)
    assert len(answered) == 3
    assert all(least <= n <= most for n in answered.values())


def test_one_node_takes_all_requests_at_once() -> None:
    """Requirement B4: one node, five at once, all are placed on it."""
    asked = scheduler(fleet("a"))
    given = [lease(asked.on_request("m", 0.0)) for _ in range(5)]
    assert [g.node.in_flight for g in given] == [5] * 5


def test_a_node_that_failed_this_request_is_not_asked_again() -> None:
    """Requirement B5: the next one gets it, until there is none left."""
    asked = scheduler(fleet("a", "b"))
    first = lease(asked.on_request("m", 0.0))
    second = lease(asked.on_request("m", 0.0, {first.node.id}))
    assert second.node is not first.node
    assert isinstance(asked.on_request("m", 0.0, {"a", "b"}), NoCapableNodes)


def test_suspects_are_a_last_resort() -> None:
    """design.md §5: a suspect node is used only when nobody else can."""
    registry = fleet("a", "b")
    registry.signal("a", Signal.REQUEST_FAILED, 0.0)
    asked = scheduler(registry)
    assert set(serve(asked, 4)) == {"b"}
    assert lease(asked.on_request("m", 0.0, {"b"})).node.id == "a"
    registry.signal("b", Signal.GOODBYE, 0.0)
    assert set(serve(asked, 2)) == {"a"}


def test_a_request_is_in_flight_until_it_is_given_back_once() -> None:
    """Requirement B7: giving back twice counts once."""
    registry = fleet("a")
    asked = scheduler(registry)
    given = lease(asked.on_request("m", 7.0))
    assert (given.since, given.model, registry.nodes["a"].in_flight) == (7.0, "m", 1)
    asked.on_done(given, failed=True)
    asked.on_done(given, failed=False)
    node = registry.nodes["a"]
    assert (node.in_flight, node.failed, node.done) == (0, 1, 0)


def test_a_removed_node_still_gets_its_lease_back() -> None:
    """An operator may remove a node that is answering: the request goes on, and is counted to its end."""
    registry = fleet("a")
    asked = scheduler(registry)
    given = lease(asked.on_request("m", 0.0))
    registry.remove("a")
    asked.on_done(given, failed=False)
    assert given.node.in_flight == 0
    assert isinstance(asked.on_request("m", 0.0), NoNodes)


def test_registering_nodes_get_nothing() -> None:
    """Requirement A4: a node whose models are still being pulled is not in rotation."""
    registry = fleet("a")
    registry.signal("a", Signal.REGISTERED, 0.0)
    assert registry.nodes["a"].state is State.REGISTERING
    assert isinstance(scheduler(registry).on_request("m", 0.0), NoCapableNodes)
