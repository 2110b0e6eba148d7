"""What replicas have on which nodes, told four times a second (requirements D6, I1)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from structlog.testing import capture_logs
from tests.core.making import fleet, occupy

from llm_router.core.elsewhere import Counts, Elsewhere
from llm_router.router.following import counting as module
from llm_router.router.following.counting import Counting
from llm_router.router.models.entry import Entry
from llm_router.router.models.offers import Offers
from llm_router.router.replicas.among import Among
from llm_router.router.replicas.bus import Bus
from llm_router.router.replicas.messages import Counted, Fetching, Message, Placed

NOTHING = Counts({"a": (0, 0, 0, 0)}, {})


class Nothing:
    """A catalogue with no model in it; or with a fault, to be met once."""

    version = 1
    fault = False

    def __iter__(self) -> Iterator[Entry]:
        if self.fault:
            self.fault = False
            raise RuntimeError("a fault of ours")
        return iter(())

    def find(self, _name: str) -> Entry | None:
        return None


class Teller:
    """A replica that counts, with a node `a` of four slots; what it says, and how often it found room."""

    def __init__(self) -> None:
        self.registry = fleet("a", models=("m",))
        self.node = self.registry.nodes["a"]
        elsewhere = Elsewhere(self.registry, "me", dict)
        self.among = Among(Bus("postgresql+asyncpg://nobody@127.0.0.1:1/none", "me"), elsewhere)
        self.among.send = self._send
        self.catalogue = Nothing()
        self.offers = Offers(self.catalogue, self.registry, decides=lambda: False)
        self.said: list[Message] = []
        self.rooms = 0
        self.counting = Counting(self.registry, elsewhere, self.among, self.offers, self._roomier)
        self._told = asyncio.Event()

    def _send(self, message: Message) -> None:
        self.said.append(message)
        self._told.set()

    def _roomier(self) -> None:
        self.rooms += 1

    async def says(self, *wanted: Message) -> None:
        """Wait until it has said all of these from now on, as often as they are named."""
        self.said.clear()
        await self.until(lambda: all(self.said.count(message) >= wanted.count(message) for message in wanted))

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._told.clear()
            await self._told.wait()


@pytest.fixture
async def teller(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Teller]:
    monkeypatch.setattr(module, "EVERY", 0.01)
    made = Teller()
    made.counting.start()
    yield made
    await made.counting.stop()


async def test_what_changed_is_told_once_and_all_of_it_now_and_then(
    teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a message is a sign of life: who says nothing for two seconds is not counted."""
    monkeypatch.setattr(module, "WHOLE_EVERY", 1000)
    await teller.says(Counted(Counts({}, {})))
    occupy(teller.node, times=2)
    await teller.says(Counted(Counts({"a": (2, 0, 0, 0)}, {})), *[Counted(Counts({}, {}))] * 2)
    assert teller.said.count(Counted(Counts({"a": (2, 0, 0, 0)}, {}))) == 1
    monkeypatch.setattr(module, "WHOLE_EVERY", 2)
    await teller.says(*[Counted(Counts({"a": (2, 0, 0, 0)}, {}))] * 2)


async def test_who_knows_nothing_is_told_everything(teller: Teller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of all nodes, what is being fetched, and who shall have what."""
    monkeypatch.setattr(module, "WHOLE_EVERY", 1000)
    teller.among.bus.trouble = "on duty, that is"
    teller.offers.decide({"m": ["a"]})
    occupy(teller.node)
    teller.node.fetching.add("m")
    everything = Counted(Counts({"a": (1, 0, 0, 0)}, {})), Fetching("a", "m"), Placed({"m": ["a"]})
    await teller.says(*everything)
    await teller.says(*[Counted(Counts({}, {}))] * 2)
    assert not {type(message) for message in teller.said} & {Fetching, Placed}
    teller.said.clear()
    teller.counting.tell_all()
    await teller.until(lambda: all(message in teller.said for message in everything))


async def test_room_at_a_node_is_offered_to_who_waits(teller: Teller) -> None:
    """When another replica's requests there have ended, or that replica has."""
    counting = teller.counting
    counting.heard("other", Counts({"a": (4, 0, 0, 0)}))
    assert (teller.node.places, teller.rooms) == (0, 0)
    counting.heard("other", Counts({"a": (3, 1, 0, 0)}))
    assert (teller.node.places, teller.rooms) == (1, 1)
    counting.heard("other", Counts({"a": (4, 1, 0, 0)}))
    counting.left("other")
    assert (teller.node.places, teller.rooms) == (4, 2)
    counting.left("other")
    counting.heard("stranger", Counts({"gone": (1, 0, 0, 0)}))
    assert teller.rooms == 2


async def test_only_a_node_that_was_asked_here_is_told_of(teller: Teller) -> None:
    """Else each would tell on what another one has told it."""
    teller.node.fetching.add("m")
    await teller.says(*[Counted(NOTHING)])
    assert Fetching("a", "m") not in teller.said


async def test_only_the_one_on_duty_tells_of_placement(teller: Teller) -> None:
    """And again when it has changed."""
    teller.offers.decide({"m": ["a"]})
    await teller.says(Counted(NOTHING))
    assert Placed({"m": ["a"]}) not in teller.said
    teller.among.bus.trouble = "on duty, that is"
    await teller.says(Placed({"m": ["a"]}))
    teller.offers.decide({})
    await teller.says(Placed({}))


async def test_a_fault_of_ours_does_not_make_it_silent(teller: Teller) -> None:
    """Who does not tell its counts is not counted: it tells them with the next message."""
    teller.among.bus.trouble = "on duty, that is"
    with capture_logs() as logged:
        teller.catalogue.fault, teller.catalogue.version = True, 2
        await teller.until(lambda: not teller.catalogue.fault)
        await teller.says(*[Counted(Counts({}, {}))] * 2)
    assert [entry["event"] for entry in logged] == ["replicas.not_counted"]
