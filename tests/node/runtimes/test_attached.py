"""The runtimes `ollama=URL` and `openai=URL`, with a server that can be told to misbehave."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import aiohttp
import msgspec
import pytest
from tests.doubles.fake_runtime import FakeRuntime, Faults, Options
from tests.node.conftest import Journal

from llm_router.contract import RuntimeFacts, parse_address
from llm_router.core.health import Signal, State
from llm_router.core.node import Node
from llm_router.core.registry import Registry
from llm_router.node.runtimes import attached
from llm_router.node.runtimes.attached import Attached


class House:
    """A server, what is attached to it, and an event for every change."""

    def __init__(
        self, kind: Literal["ollama", "openai"], fake: FakeRuntime, session: aiohttp.ClientSession, journal: Journal
    ) -> None:
        self.fake = fake
        self.registry = Registry()
        self.news = asyncio.Event()
        address = parse_address(fake.url)
        self.runtime = Attached(kind, address, self.registry, session, journal.log, self.news.set)

    @property
    def upstream(self) -> Node:
        (node,) = self.registry
        return node

    async def look_until(self, state: State) -> None:
        """Look again and again until the upstream is in this state."""
        async with asyncio.timeout(30):
            while self.upstream.state is not state:
                self.news.clear()
                await self.runtime.check(self.upstream.id)
                await self.news.wait()


@pytest.fixture(params=["ollama", "openai"])
async def house(
    request: pytest.FixtureRequest, session: aiohttp.ClientSession, journal: Journal
) -> AsyncIterator[House]:
    async with FakeRuntime(Options(kind=request.param, models=["a:1b", "b"])) as fake:
        house = House(request.param, fake, session, journal)
        yield house
        await house.runtime.stop()


async def test_models_are_listed_when_start_returns(house: House) -> None:
    """One upstream with all models of the server."""
    await house.runtime.start()
    assert sorted(house.registry.available()) == ["a:1b", "b"]
    assert house.upstream.state is State.ONLINE
    assert house.upstream.address == parse_address(house.fake.url)


async def test_facts(house: House) -> None:
    """Ollama tells its version and what is in memory; an OpenAI server holds what it serves."""
    await house.runtime.start()
    ollama = house.upstream.kind == "ollama"
    assert house.runtime.facts() == RuntimeFacts(house.upstream.kind, "0.12.0" if ollama else "", 4)
    assert house.runtime.loaded() == ["a:1b", "b"]
    assert ("ollama" in house.upstream.dialects) is ollama


async def test_a_server_that_is_not_there_yet(house: House, journal: Journal) -> None:
    """It is waited for, and the log says for what; when it comes its models are listed."""
    house.fake.faults = Faults(refuse=True)
    await house.runtime.start()
    assert not house.registry.available()
    (entry,) = journal.find("runtime.offline")
    assert house.fake.url in entry["detail"]
    house.fake.faults = Faults()
    await house.look_until(State.ONLINE)
    assert sorted(house.registry.available()) == ["a:1b", "b"]


@pytest.mark.parametrize("fault", ["refuse", "hang_all"])
async def test_a_server_that_goes(house: House, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """One look finds it gone, or hung while it takes connections (E2): nothing of it is offered any more (C9).

    It comes back by itself (E3), and the agent hears of both.
    """
    await house.runtime.start()
    monkeypatch.setattr(attached, "LOOK_WITHIN", 0.3)
    monkeypatch.setattr(attached, "SURE_WITHIN", 0.3)
    house.fake.faults = msgspec.structs.replace(Faults(), **{fault: True})
    await house.look_until(State.OFFLINE)
    assert not house.registry.available()
    assert house.runtime.loaded() == []
    monkeypatch.undo()
    house.fake.faults = Faults()
    await house.look_until(State.ONLINE)
    assert sorted(house.registry.available()) == ["a:1b", "b"]


async def test_one_look_in_vain_is_not_enough(house: House, monkeypatch: pytest.MonkeyPatch, journal: Journal) -> None:
    """A server that failed to answer once is asked again at once, and stays in use if it does then."""
    await house.runtime.start()
    monkeypatch.setattr(attached, "LOOK_WITHIN", 0.3)
    house.fake.faults = Faults(hang_all=True)
    await house.look_until(State.SUSPECT)
    house.fake.faults = Faults()
    await journal.entry("runtime.online", 2)
    assert not journal.find("runtime.offline")


async def test_a_failed_request_is_looked_into(house: House) -> None:
    """A server under suspicion is looked at now, not in 5 seconds."""
    await house.runtime.start()
    house.registry.signal(house.upstream.id, Signal.REQUEST_FAILED, 0.0)
    await house.look_until(State.ONLINE)


async def test_new_models_are_news(house: House) -> None:
    """The agent hears of a changed list, so that the router does (requirement C8)."""
    await house.runtime.start()
    house.news.clear()
    house.fake.options.models = ["c"]
    await house.runtime.check(house.upstream.id)
    await house.news.wait()
    assert list(house.registry.available()) == ["c"]


async def test_memory_is_news(house: House) -> None:
    """The agent hears that a model came into memory or left it, where the server tells, so that the router does."""
    await house.runtime.start()
    if house.upstream.kind == "openai":
        return  # it does not tell
    house.news.clear()
    house.fake.options.unloaded = ["b"]
    await house.runtime.check(house.upstream.id)
    await house.news.wait()
    assert house.runtime.loaded() == ["a:1b"]


async def test_others_upstreams(house: House) -> None:
    """What is not this server is left to the other runtimes."""
    await house.runtime.start()
    assert await house.runtime.wake("llamacpp/hello-world") is None
    assert await house.runtime.wake(house.upstream.id) == house.upstream.address
