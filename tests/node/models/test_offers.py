"""What the router offers, and when it is asked for it (requirement C1)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.doubles.offering_router import OfferingRouter
from tests.node.conftest import Journal

from llm_router.contract import parse_address
from llm_router.errors import UpstreamFailed
from llm_router.node.identity import Identity
from llm_router.node.models.builtin import model_bytes
from llm_router.node.models.offers import Offers


@pytest.fixture
async def router() -> AsyncIterator[OfferingRouter]:
    async with OfferingRouter() as router:
        yield router


class House:
    """The offers, and how often they were others than before."""

    def __init__(self, router: OfferingRouter, home: Path, session: aiohttp.ClientSession, journal: Journal) -> None:
        self.router = router
        self.news: asyncio.Queue[list[str]] = asyncio.Queue()
        self.offers = Offers(Identity.load(home / "identity.json"), session, journal.log, self._changed)
        self.offers.connect(parse_address(router.url))

    async def heard(self) -> list[str]:
        """The models that are offered now, once that is known."""
        self.offers.hear(self.router.number)
        async with asyncio.timeout(10):
            return await self.news.get()

    def _changed(self) -> None:
        self.news.put_nowait(sorted(self.offers.current))


@pytest.fixture
async def house(
    router: OfferingRouter, tmp_path: Path, session: aiohttp.ClientSession, journal: Journal
) -> AsyncIterator[House]:
    house = House(router, tmp_path, session, journal)
    yield house
    await house.offers.stop()


async def test_a_new_number_has_the_list_asked_for(house: House) -> None:
    """The list is asked for when a heartbeat's answer says that it is another one, and only then."""
    house.router.offer("a", model_bytes())
    assert await house.heard() == ["a"]
    house.offers.hear(house.router.number)
    house.router.offer("b", model_bytes())
    assert await house.heard() == ["a", "b"]
    house.router.withdraw("a")
    assert await house.heard() == ["b"]
    assert house.router.requests["list"] == 3


async def test_zero_is_nothing(house: House) -> None:
    """A router without a catalogue is never asked; one that has none any more offers nothing."""
    house.offers.hear(0)
    house.router.offer("a", model_bytes())
    await house.heard()
    house.offers.hear(0)
    assert house.offers.current == {}
    assert house.router.requests["list"] == 1


async def test_a_list_that_cannot_be_had_is_asked_for_again(house: House, journal: Journal) -> None:
    """What was offered last counts until then, and the log says why."""
    house.router.offer("a", model_bytes())
    await house.heard()
    elsewhere = house.offers.router
    house.offers.router = "http://127.0.0.1:9"
    house.offers.hear(house.router.number + 1)
    entry = await journal.entry("offers.unknown")
    assert "127.0.0.1:9" in entry["reason"]
    assert list(house.offers.current) == ["a"]
    house.offers.router = elsewhere
    house.router.offer("b", model_bytes())
    assert await house.heard() == ["a", "b"]


async def test_names_that_are_none_are_passed_over(house: House) -> None:
    """H7: whatever a router calls a model, it becomes no path outside the store."""
    for name in ("../up", "/etc/x", "a/../b", "Capital", "con", "a\\b", "ok"):
        house.router.offer(name, model_bytes())
    assert await house.heard() == ["ok"]


async def test_no_manifest(house: House) -> None:
    """A model that the router does not know any more has none, and the error says where it was asked."""
    with pytest.raises(UpstreamFailed, match=r"manifest\.json answered with status 404"):
        await house.offers.manifest("nowhere")


async def test_what_was_deleted_here_is_wanted_again_when_the_router_says_so_again(house: House) -> None:
    """Who deletes a model by hand does not see it fetched again in the moment before the router knows."""
    house.router.offer("a", model_bytes(), wanted=True)
    await house.heard()
    house.offers.let_go("a")
    house.offers.let_go("nobody's")
    assert not house.offers.current["a"].wanted
    assert await house.heard() == ["a"]
    assert house.offers.current["a"].wanted
