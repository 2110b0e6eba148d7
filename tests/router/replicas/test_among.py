"""Who keeps which node: of what all replicas notice, one tells."""

import asyncio

import pytest

from llm_router.core.elsewhere import Counts, Elsewhere
from llm_router.core.registry import Registry
from llm_router.router.replicas.among import Among
from llm_router.router.replicas.bus import Bus

NOWHERE = "postgresql+asyncpg://nobody@127.0.0.1:1/none"


class Place:
    """One of several, not connected yet; `other` is heard from time to time."""

    def __init__(self) -> None:
        self.elsewhere = Elsewhere(Registry(), "me", dict)
        self.among = Among(Bus(NOWHERE, "me"), self.elsewhere)
        self.elsewhere.heard("other", Counts({}), 0.0)


@pytest.fixture
def place() -> Place:
    return Place()


def test_the_one_to_which_an_agent_spoke_last_keeps_it(place: Place) -> None:
    """Until it speaks to another."""
    among = place.among
    assert not among.keeps("n")
    among.reports_here("n")
    assert among.keeps("n")
    assert among.is_here("n")
    among.reports_there("n", "other")
    assert not among.keeps("n")
    assert not among.is_here("n")


def test_a_node_whose_keeper_is_gone_is_kept_by_the_one_on_duty(place: Place) -> None:
    """And so is a server that speaks to nobody. Without the database everybody is on duty: nobody knows better."""
    place.among.reports_there("n", "other")
    place.elsewhere.gone("other", 1.0)
    assert not place.among.keeps("n")
    place.among.bus.trouble = "connection refused"
    assert place.among.on_duty
    assert place.among.keeps("n")
    assert place.among.keeps("attached")
    assert (place.among.name, place.among.trouble) == ("me", "connection refused")


def test_who_is_silent_keeps_nothing(place: Place) -> None:
    """It did not say goodbye, but nobody hears it."""
    place.among.bus.trouble = "on duty, that is"
    place.among.reports_there("n", "other")
    assert not place.among.keeps("n")
    place.elsewhere.tick(60.0)
    assert place.among.keeps("n")
    assert place.among.others == []


def test_nodes_that_were_removed_are_forgotten(place: Place) -> None:
    """Who keeps them, that is: agents come and go for months."""
    place.among.reports_here("n")
    place.among.reports_here("gone")
    place.among.keep_only({"n"})
    assert place.among.is_here("n")
    assert not place.among.is_here("gone")


async def test_others_are_given_time_to_act(place: Place) -> None:
    """Where there are any."""
    waiting = asyncio.create_task(place.among.acted())
    await asyncio.sleep(0)  # noqa: TID251 - no pause: a turn for it
    assert not waiting.done()
    await waiting
    place.elsewhere.gone("other", 1.0)
    alone = asyncio.create_task(place.among.acted())
    await asyncio.sleep(0)  # noqa: TID251 - no pause: a turn for it
    assert alone.done()
