"""A whole agent whose router offers models: what its clients see (requirements H1, H4, C1)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.doubles.offering_router import OfferingRouter

from llm_router.config import NodeConfig
from llm_router.contract import parse_address
from llm_router.node.app import Agent
from llm_router.node.models.builtin import NAME, SENTENCE, model_bytes

WHOLE = model_bytes()


class House:
    """An agent, and the router that it asks."""

    def __init__(self, agent: Agent, port: int, router: OfferingRouter) -> None:
        self.agent = agent
        self.router = router
        self.url = f"http://127.0.0.1:{port}"

    async def hear(self) -> None:
        """A heartbeat's answer says that there are other offers; until they are listed."""
        self.agent.offers.connect(parse_address(self.router.url))
        self.agent.offers.hear(self.router.number)
        async with asyncio.timeout(10):
            while not self.router.offers.keys() <= self.agent.registry.available().keys():  # noqa: ASYNC110 - see below
                await asyncio.sleep(0.01)  # noqa: TID251 - the agent tells its router alone

    async def get(self, path: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        async with self.agent.session.get(self.url + path) as response:
            return await response.json()

    async def chat(self, model: str, **more: object) -> tuple[int, Any]:
        """The status and the answer."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
        async with self.agent.session.post(f"{self.url}/v1/chat/completions", json=body) as response:
            return response.status, await response.json()

    async def stored(self) -> dict[str, bool]:
        """Of every model in the list whether it would have to be fetched first."""
        return {entry["id"]: entry["stored"] for entry in (await self.get("/v1/models"))["data"]}


Furnish = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def furnish(config: NodeConfig, session: aiohttp.ClientSession) -> Furnish:
    """An agent with settings of its own."""

    @asynccontextmanager
    async def furnished(**settings: object) -> AsyncIterator[House]:
        settings = {"runtime": ["llamacpp"], "memory": 2_000_000_000, "host": "127.0.0.1", **settings}
        async with OfferingRouter() as router, AsyncExitStack() as stack:
            agent = Agent(msgspec.structs.replace(config, **settings), session)
            yield House(agent, await agent.start(stack), router)
            router.release.set()

    return furnished


async def test_a_model_that_is_offered_answers(furnish: Furnish) -> None:
    """H1: it is in the list, the first request fetches it, and is answered; the list's number is another one then."""
    async with furnish() as house:
        house.router.offer("org/tiny:q8_0", WHOLE)
        await house.hear()
        assert await house.stored() == {NAME: True, "org/tiny:q8_0": False}
        before = house.agent.report().models_version
        status, answer = await house.chat("org/tiny:q8_0")
        assert (status, answer["choices"][0]["message"]["content"]) == (200, SENTENCE)
        assert await house.stored() == {NAME: True, "org/tiny:q8_0": True}
        assert house.agent.report().models_version > before


async def test_twenty_first_requests(furnish: Furnish) -> None:
    """H4: more than it answers at once, and one download."""
    async with furnish() as house:
        house.router.offer("tiny", WHOLE)
        await house.hear()
        answers = await asyncio.gather(*(house.chat("tiny") for _ in range(20)))
        assert {status for status, _ in answers} == {200}
        assert house.router.sent["tiny"] == len(WHOLE)


async def test_who_waits_too_long_hears_how_far_it_is(furnish: Furnish) -> None:
    """504 with how far it is; the download goes on, and the next request is answered."""
    async with furnish(fetch_timeout=0.5) as house:
        house.router.hold_at = 49152
        house.router.offer("tiny", WHOLE)
        await house.hear()
        status, answer = await house.chat("tiny")
        assert (status, answer["error"]["code"]) == (504, "model_being_fetched")
        assert [step.name for step in house.agent.report().progress] == ["tiny"]
        house.router.release.set()
        async with asyncio.timeout(30):
            while (await house.chat("tiny"))[0] != 200:
                pass
        assert house.router.requests["file"] == 1


async def test_a_model_that_is_nowhere(furnish: Furnish) -> None:
    """H1: 404 within a second."""
    async with furnish() as house:
        begin = time.monotonic()
        status, answer = await house.chat("nowhere")
        assert (status, answer["error"]["code"]) == (404, "model_not_found")
        assert time.monotonic() - begin < 1
