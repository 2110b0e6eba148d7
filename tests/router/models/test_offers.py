"""What is offered to whom, and the number that says that it has changed (requirement H6)."""

from collections.abc import Iterator

import pytest

from llm_router.contract import Address, Gpu, Heartbeat, NodeSettings, Registration
from llm_router.core.health import Signal
from llm_router.core.registry import Registry
from llm_router.models.manifest import Manifest, ModelFile
from llm_router.router.models.entry import Entry, Placement
from llm_router.router.models.offers import AT_MOST_EVERY, Offers, room
from llm_router.router.models.placement import GRACE


class Shelf:
    """A catalogue that is filled by hand."""

    def __init__(self) -> None:
        self.version = 7
        self.entries: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def find(self, name: str) -> Entry | None:
        return self.entries.get(name)

    def put(self, name: str, placement: Placement = Placement()) -> None:  # noqa: B008 - it is frozen
        manifest = Manifest(name, "gguf", [ModelFile("f.gguf", 10)])
        self.entries[name] = Entry(manifest, placement, 0, "", chat_template=False, context=0, created=0.0)
        self.version += 1


class World:
    """A catalogue, nodes, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.shelf = Shelf()
        self.registry = Registry()
        self.offers = Offers(self.shelf, self.registry, lambda: self.now)

    def join(self, node_id: str, *models: str, memory: int = 0) -> None:
        message = Registration(node_id, node_id, 1)
        self.registry.register(node_id, message, Address("127.0.0.1", 1), local=True, now=self.now)
        self.registry.list_models(node_id, models, self.now)
        self.registry.heartbeat(node_id, Heartbeat(memory_total=memory, memory=50.0), self.now)
        self.later()

    def leave(self, node_id: str) -> None:
        self.registry.signal(node_id, Signal.GOODBYE, self.now)
        self.later()

    def later(self, seconds: float = AT_MOST_EVERY) -> None:
        self.now += seconds


@pytest.fixture
def world() -> World:
    return World()


def test_an_empty_catalogue_offers_nothing(world: World) -> None:
    """And its number says so."""
    world.join("a")
    assert (world.offers.of("a"), world.offers.number("a")) == ([], 0)


def test_what_is_there_on_demand_is_offered_and_not_wanted(world: World) -> None:
    """Nobody fetches it until it is asked for."""
    world.shelf.put("m")
    world.join("a", "m")
    (offer,) = world.offers.of("a")
    assert (offer.manifest.model, offer.wanted, offer.preload) == ("m", False, False)
    assert world.offers.wanted("m") == frozenset()


def test_the_number_is_of_what_is_offered(world: World) -> None:
    """The same as long as that is; another for each node's own wishes; the same again after a restart of the router."""
    world.shelf.put("m")
    world.join("a", "m", "n")
    world.join("b", "m", "n")
    first = world.offers.number("a")
    world.later()
    assert first == world.offers.number("a") == world.offers.number("b") != 0
    world.shelf.put("n", Placement(nodes=1, pinned=["b"]))
    assert len({first, world.offers.number("a"), world.offers.number("b")}) == 3
    world.shelf.version += 100
    assert world.offers.number("b") == Offers(world.shelf, world.registry, lambda: world.now).number("b")
    assert 0 < world.offers.number("b") < 2**53


def test_preload_is_said_to_whom_it_concerns(world: World) -> None:
    """And it alone changes the number."""
    world.shelf.put("m", Placement(pinned=["a"]))
    world.join("a", "m")
    world.join("b", "m")
    before = world.offers.number("a")
    world.shelf.put("m", Placement(pinned=["a"], preload=True))
    assert world.offers.number("a") != before
    assert [(o.wanted, o.preload) for node in "ab" for o in world.offers.of(node)] == [(True, True), (False, False)]


def test_another_takes_the_place_of_who_went_away(world: World) -> None:
    """After a minute; who comes back with its copy has it for both."""
    world.shelf.put("m", Placement(preload=True))
    world.join("a", "m")
    assert world.offers.wanted("m") == {"a"}
    world.join("b", "m")
    world.registry.nodes["b"].absent = frozenset({"m"})
    world.leave("a")
    assert world.offers.wanted("m") == {"a"}
    world.later(GRACE)
    assert world.offers.wanted("m") == {"b"}
    world.join("a", "m")
    assert world.offers.wanted("m") == {"a"}


def test_a_drained_node_is_as_good_as_away(world: World) -> None:
    """It answers nothing."""
    world.shelf.put("m", Placement(preload=True))
    world.join("a", "m")
    world.join("b", "m")
    (chosen,) = world.offers.wanted("m")
    world.registry.configure(chosen, NodeSettings(drain=True, changed=1.0))
    world.later()
    assert world.offers.wanted("m") == {chosen}
    world.later(GRACE)
    assert world.offers.wanted("m") == {"a", "b"} - {chosen}


def test_most_room_is_chosen(world: World) -> None:
    """Of graphics processors where there are some, else the machine's."""
    world.shelf.put("m", Placement(preload=True))
    world.join("a", "m", memory=1000)
    world.join("b", "m", memory=2000)
    for node in world.registry:
        node.absent = frozenset({"m"})
    assert world.offers.wanted("m") == {"b"}
    node = world.registry.nodes["a"]
    assert room(node) == 500
    node.report = Heartbeat(memory_total=1000, gpus=[Gpu("x", 80, 20), Gpu("y", 10, 20)])
    assert room(node) == 60


def test_who_does_not_decide_says_what_was_decided_elsewhere(world: World) -> None:
    """Each replica answers nodes alike; on duty, it goes on from there."""
    decides = [False]
    followers = Offers(world.shelf, world.registry, lambda: world.now, decides=lambda: decides[0])
    world.shelf.put("m", Placement(preload=True))
    world.join("a", "m")
    world.join("b", "m")
    (chosen,) = world.offers.wanted("m")
    other = ({"a", "b"} - {chosen}).pop()
    assert followers.wanted("m") == frozenset()
    followers.decide(world.offers.decided())
    assert followers.wanted("m") == {chosen}
    assert [followers.number(node) for node in "ab"] == [world.offers.number(node) for node in "ab"]
    followers.decide({"m": [other]})
    world.later()
    assert followers.decided() == {"m": [other]}
    decides[0] = True
    world.later()
    assert followers.decided() == {"m": [other]}  # as good as any: nothing is moved
