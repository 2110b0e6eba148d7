"""The player, against a machine of the bench as a program in front of which no router stands."""

from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from bench.fleet.fleet import LARGE
from bench.fleet.machine import Stats
from bench.fleet.player import Player
from bench.fleet.runtime import serving
from bench.fleet.trace import MODELS, Conversation, Message, Turn, draw, filler, sizes

SCALE = 2000.0  # a minute of the trace in 30 ms
UNKNOWN = Conversation("nobody-has-it", (), (Turn(0.0, Message("user", "hi"), 20),))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@pytest.fixture
async def machine() -> AsyncIterator[str]:
    async with serving([LARGE], SCALE, 0) as urls:
        yield urls["large"]


async def seen(session: aiohttp.ClientSession, machine: str) -> Stats:
    async with session.get(f"{machine}/_stats") as response:
        return msgspec.json.decode(await response.read(), type=Stats)


@pytest.mark.parametrize("api", ["", "/v1"])
async def test_every_request_of_the_trace_is_answered(session: aiohttp.ClientSession, machine: str, api: str) -> None:
    """In Ollama's API as in OpenAI's, in the order of the plan, with a first token before the last."""
    samples = await Player(session, machine + api, SCALE).play(draw(1.0, 40, seed=1))
    assert [s.failure for s in samples] == [""] * 40
    assert all(0 < s.ttft <= s.latency for s in samples)
    assert [s.planned for s in samples] == sorted(s.planned for s in samples)
    assert (await seen(session, machine)).served == 40


@pytest.mark.parametrize("api", ["", "/v1"])
async def test_a_turn_brings_the_answer_that_was_heard(session: aiohttp.ClientSession, machine: str, api: str) -> None:
    """So the machine knows all of a conversation's prompt but the new question."""
    questions = [Message("user", filler(f"question {n}", 50)) for n in range(3)]
    conversation = Conversation(MODELS[0], (), tuple(Turn(float(n), q, 100) for n, q in enumerate(questions)))
    samples = await Player(session, machine + api, SCALE).play([conversation])
    assert [s.failure for s in samples] == [""] * 3
    assert (await seen(session, machine)).reused == sum(sizes([conversation])) - 3 * 50


async def test_a_refusal_is_a_failure_and_the_trace_goes_on(session: aiohttp.ClientSession, machine: str) -> None:
    """It is told by its status; the requests of others are played nevertheless."""
    samples = await Player(session, machine, SCALE).play([UNKNOWN, *draw(1.0, 20, seed=1)])
    assert [(s.failure, s.status) for s in samples if s.failure] == [("status 404", 404)]
    assert len(samples) == 21


async def test_nobody_there_is_a_failure(session: aiohttp.ClientSession) -> None:
    """A router that has gone does not end the bench."""
    async with serving([LARGE], SCALE, 0) as urls:
        gone = urls["large"]
    (sample,) = await Player(session, gone, SCALE).play([UNKNOWN])
    assert sample.failure == "ClientConnectorError"


async def test_a_machine_can_be_made_new(session: aiohttp.ClientSession, machine: str) -> None:
    """After a reset it has loaded nothing and counted nothing."""
    await Player(session, machine, SCALE).play(draw(1.0, 20, seed=1))
    async with session.post(f"{machine}/_reset"):
        pass
    async with session.get(f"{machine}/api/ps") as response:
        assert await response.json() == {"models": []}
    assert await seen(session, machine) == Stats()
