"""What was asked and answered reaches whoever keeps it, once per request (`--log-bodies`)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.gateway.conftest import (
    BODY,
    SSE_HEAD,
    STREAM,
    WHOLE,
    House,
    answers,
    breaks_after,
    chunk,
    opened,
    post,
    whole,
)

from llm_router.gateway.remembered import LIMIT, Remembered

FIRST, SECOND = b'data: {"one":1}\n\n', b"data: [DONE]\n\n"

Kept = list[tuple[str, bytes, bytes]]


@pytest.fixture
def kept() -> Kept:
    return []


@pytest.fixture
async def house(tmp_path: Path, kept: Kept) -> AsyncIterator[House]:
    """A gateway whose exchanges are remembered, as `Gateway` chooses where `DataPlane` is told to."""
    async with opened(tmp_path) as house:
        house.plane.bodies = lambda *said: kept.append(said)
        house.gateway.inference = Remembered
        yield house


async def test_a_whole_answer_is_kept(house: House, kept: Kept) -> None:
    """With the prompt, as both were sent."""
    await house.node("a", answers(whole()))
    client = await post(house, headers="X-Request-ID: r1\r\n")
    await client.answer()
    await house.settled()
    assert kept == [("r1", BODY, WHOLE)]


async def test_a_stream_is_kept_without_its_framing(house: House, kept: Kept) -> None:
    """However its pieces are cut."""
    wire = chunk(FIRST) + chunk(SECOND) + b"0\r\n\r\n"
    await house.node("a", answers(SSE_HEAD, wire[:9], wire[9:30], wire[30:]))
    client = await post(house, STREAM)
    await client.head()
    await client.chunks()
    await house.settled()
    assert [said[1:] for said in kept] == [(STREAM, FIRST + SECOND)]


async def test_of_an_answer_that_breaks_off_its_beginning_is_kept(house: House, kept: Kept) -> None:
    """That is what the client has."""
    await house.node("a", breaks_after(SSE_HEAD, chunk(FIRST)))
    client = await post(house, STREAM)
    await client.head()
    await house.settled()
    assert [said[2] for said in kept] == [FIRST]


async def test_only_the_last_nodes_answer_is_kept(house: House, kept: Kept) -> None:
    """What a node sent before it was replaced, the client has not seen."""
    await house.node("a", breaks_after(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"))
    await house.node("b", answers(whole()))
    client = await post(house)
    await client.answer()
    (record,) = await house.settled()
    assert record.attempts == 2
    assert [said[2] for said in kept] == [WHOLE]


async def test_a_refused_request_has_a_prompt_and_no_answer(house: House, kept: Kept) -> None:
    """What was said to it is in its record."""
    client = await post(house)
    assert (await client.answer())[0] == 503
    await house.settled()
    assert [said[1:] for said in kept] == [(BODY, b"")]


async def test_what_is_kept_is_bounded(house: House, kept: Kept) -> None:
    """Of a long prompt and a long answer, the beginning."""
    await house.node("a", answers(whole(b"a" * (5 * LIMIT))))
    prompt = b'{"model":"m","messages":[],"x":"%b"}' % (b"p" * (2 * LIMIT))
    client = await post(house, prompt)
    await client.answer()
    await house.settled()
    assert [said[1:] for said in kept] == [(prompt[:LIMIT], b"a" * LIMIT)]


async def test_by_default_exchanges_remember_nothing(tmp_path: Path) -> None:
    """Not one more line of code runs for them."""
    async with opened(tmp_path) as house:
        assert house.gateway.inference is not Remembered
