"""What those who watch are told (requirements D6 and F2)."""

from typing import Any

import msgspec
import pytest

from llm_router.contract import Address, Heartbeat, NodeSettings
from llm_router.core.ask import Ask
from llm_router.core.health import State
from llm_router.core.node import Lease, Node
from llm_router.core.registry import Registry
from llm_router.core.usage import RequestRecord
from llm_router.router.feed import BACKLOG, MOST, Feed
from llm_router.router.store.queries import Event


class World:
    """A feed with two nodes, and what stands beside them."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.queued: dict[str, int] = {}
        self.lost = 0
        for name in ("a", "b"):
            self.add(name)
        self.feed = Feed(self.registry, lambda: self.queued, lambda: self.lost)
        self.now = 100.0

    def add(self, name: str) -> Node:
        node = Node(name, name, "agent", Address(name, 1), dialects=frozenset(), state=State.ONLINE, models=["m"])
        self.registry.add(node, 100.0)
        return node

    def told(self, after: float = 0.25) -> list[tuple[str, Any]]:
        """What is said `after` so many seconds."""
        self.now += after
        return [(name.decode(), msgspec.json.decode(data)) for name, data in self.feed.gather(self.now)]

    def happens(self, event: str, node_id: str) -> None:
        self.feed.event(Event(1.0, event, node_id, node_id, ""))


@pytest.fixture
def world() -> World:
    made = World()
    made.told()
    return made


def record(number: int = 0, node_id: str = "a", tokens: int = 10) -> RequestRecord:
    return RequestRecord(
        id=f"r{number}",
        at=1.0,
        client="c",
        operation="openai.chat",
        model="m",
        node_id=node_id,
        node=node_id,
        status=200,
        outcome="done",
        streamed=True,
        attempts=1,
        first_byte=0.1,
        seconds=0.2,
        prompt_tokens=5,
        completion_tokens=tokens,
        error="",
    )


def test_everything_is_told_once() -> None:
    """All nodes at first, and nothing where nothing happens."""
    world = World()
    assert [(name, data["id"]) for name, data in world.told() if name == "node"] == [("node", "a"), ("node", "b")]
    assert world.told() == []
    assert world.told(10.0) == []


def test_what_happened_to_a_node_is_told_at_once(world: World) -> None:
    """Requirement F2: its event, and the node as it is now, once however much happened."""
    world.registry.configure("a", NodeSettings(name="left"))
    world.happens("node.changed", "a")
    world.happens("node.changed", "a")
    told = world.told()
    assert [name for name, _ in told] == ["node", "event", "event"]
    assert told[0][1]["name"] == "left"


def test_reports_of_a_machine_are_told_once_a_second(world: World) -> None:
    """Requirement F1: CPU and memory, however often they come."""
    told = []
    for cpu in range(8):
        world.registry.heartbeat("a", Heartbeat(cpu=float(cpu)), 100.0)
        told += [data["cpu"] for name, data in world.told() if name == "node"]
    assert told == [3.0, 7.0]


def test_a_model_that_is_loaded_is_told(world: World) -> None:
    """Though nobody reported it: an answer showed it."""
    world.registry.warm_up(world.registry.nodes["a"], "m", 0.0)
    assert [(name, data["loaded"]) for name, data in world.told(1.0)] == [("node", ["m"])]


def test_new_and_removed_nodes_are_told(world: World) -> None:
    """Requirement F2: with no reload, whether an event says so or not."""
    world.add("c")
    world.registry.remove("a")
    told = world.told()
    assert [(name, data["id"]) for name, data in told] == [("node", "c"), ("gone", "a")]


def test_counts_travel_in_rates(world: World) -> None:
    """Requirement D6: a request makes no message of its node, and rates name only the nodes that had any."""
    node = world.registry.nodes["a"]
    node.leases.add(Lease(node, Ask("m", 100.0), 100.0))
    world.queued = {"m": 3}
    world.lost = 1
    ((name, rates),) = world.told(1.0)
    assert name == "rates"
    assert (rates["in_flight"], rates["queued"], rates["lost"]) == (1, {"m": 3}, 1)
    assert rates["nodes"] == {"a": {"in_flight": 1, "done": 0, "failed": 0, "requests": 0.0, "tokens": 0.0}}
    assert world.told(1.0) == []


def test_rates_are_per_second_and_end_with_zero(world: World) -> None:
    """Requests and tokens of their answers; what was refused counts for no node."""
    world.told(1.0)
    world.feed.requests([record(1), record(2), record(3, node_id="")])
    *_, (_, rates) = world.told(2.0)
    assert (rates["requests"], rates["tokens"]) == (1.5, 15.0)
    assert (rates["nodes"]["a"]["requests"], rates["nodes"]["a"]["tokens"]) == (1.0, 10.0)
    ((_, rates),) = world.told(1.0)
    assert (rates["requests"], rates["nodes"]["a"]["requests"]) == (0.0, 0.0)
    assert world.told(1.0) == []


def ended(world: World) -> list[str]:
    """The ids of the ended requests that one look tells of."""
    return [request["id"] for request in dict(world.told()).get("requests", [])]


def test_ended_requests_are_told_in_their_order(world: World) -> None:
    """Requirement F2; those of a moment in which much came at once at the looks after it, and none twice."""
    world.feed.requests([record(number) for number in range(MOST + 5)])
    assert ended(world) == [f"r{number}" for number in range(MOST)]
    assert ended(world) == [f"r{number}" for number in range(MOST, MOST + 5)]
    assert ended(world) == []


def test_of_very_many_ended_requests_the_last_are_told(world: World) -> None:
    """Who watches sees what is, not what was: a stream that would fall behind leaves something out."""
    world.feed.requests([record(number) for number in range(BACKLOG + 5)])
    assert ended(world) == [f"r{number}" for number in range(BACKLOG + 5 - MOST, BACKLOG + 5)]
    assert ended(world) == []


def test_a_newcomer_is_told_what_everybody_was(world: World) -> None:
    """Nodes and counts as they stand in the messages so far; what comes next follows on that."""
    node = world.registry.nodes["a"]
    node.done = 7
    world.told(1.0)
    nodes, counts = msgspec.json.decode(world.feed.nodes()), msgspec.json.decode(world.feed.counts())
    assert [n["id"] for n in nodes] == ["a", "b"]
    assert (counts["nodes"]["a"]["done"], counts["nodes"]["b"]["done"]) == (7, 0)


def test_a_look_that_is_cut_short_loses_nothing(world: World) -> None:
    """A thousand nodes are told in several turns of the loop, in which more may happen."""
    world.happens("node.changed", "a")
    world.happens("node.changed", "b")
    world.feed.requests([record(1)])
    told = []
    for meanwhile, (name, _) in enumerate(world.feed.gather(world.now)):
        told.append(name)
        world.registry.configure("a", NodeSettings(name=f"{meanwhile}"))
        world.happens("node.changed", "a")
        world.feed.requests([record(2)])
    assert told == [b"node", b"node", b"requests", b"event", b"event", b"event", b"event"]
    later = world.told()
    assert [(name, data["name"]) for name, data in later if name == "node"] == [("node", "6")]
    assert [name for name, _ in later].count("event") == 5
    assert [len(data) for name, data in later if name == "requests"] == [5]
