"""A request's say about its model's place in memory, on its way through a node's gateway (Ollama's `keep_alive`)."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.gateway.conftest import House, answers, opened, post, whole

from llm_router.contract import Address
from llm_router.errors import QueueTimeout, RouterError, UpstreamFailed
from llm_router.wire.wishes import Wishes

OPENAI_ONLY = frozenset({"openai"})
ANSWER = b'{"choices":[{"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
ASKS = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":false'
EMPTY = b'{"model":"m","messages":[],"stream":false'


class Place:
    """What runs the one model: it is in memory or not, and hears what requests want."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.wishes: list[Wishes] = []
        self.woken = 0
        self.refusal: RouterError | None = None
        self.address: Address | None = None
        house.plane.prepare = lambda _id, wishes: self.wishes.append(wishes)
        house.plane.wake = self.wake

    def sleep(self) -> None:
        self.house.registry.relocate("one", None)

    async def wake(self, upstream_id: str) -> Address:
        self.woken += 1
        if self.refusal is not None:
            raise self.refusal
        assert self.address
        self.house.registry.relocate(upstream_id, self.address)
        return self.address


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path) as house:
        place = Place(house)
        upstream = await house.node("one", *[answers(whole(ANSWER))] * 3, dialects=OPENAI_ONLY)
        place.address = upstream.address
        yield place


async def ask(place: Place, body: bytes, path: str = "/api/chat") -> tuple[int, dict[str, str], dict[str, object]]:
    client = await post(place.house, body, path)
    status, headers, answer = await client.answer()
    return status, headers, msgspec.json.decode(answer)


async def test_what_a_request_wants(place: Place) -> None:
    """It is told before the request goes on; one that wants nothing says so."""
    await ask(place, ASKS + b',"keep_alive":"10m","options":{"num_ctx":8192}}')
    await ask(place, ASKS + b"}")
    assert place.wishes == [Wishes(600.0, 8192), Wishes()]
    assert place.woken == 0


async def test_what_is_no_duration(place: Place) -> None:
    """It is the caller's mistake, whatever else is right."""
    status, _, answer = await ask(place, ASKS + b',"keep_alive":"soon"}')
    assert status == 400
    assert "keep_alive" in str(answer["error"])
    assert place.wishes == []


async def test_an_empty_request_loads(place: Place) -> None:
    """Without a prompt nothing is asked, but the model is brought up, once."""
    place.sleep()
    for _ in range(2):
        status, _, answer = await ask(place, EMPTY + b"}")
        assert (status, answer["done_reason"]) == (200, "load")
    assert place.woken == 1
    await place.house.settled(2)


async def test_an_empty_request_that_keeps_nothing_unloads(place: Place) -> None:
    """Whoever runs the model is told, and it is not brought up for that."""
    place.sleep()
    status, _, answer = await ask(place, EMPTY + b',"keep_alive":0}')
    assert (status, answer["done_reason"]) == (200, "unload")
    assert (place.woken, place.wishes) == (0, [Wishes(0.0)])


async def test_one_that_cannot_be_loaded(place: Place) -> None:
    """Who only asked for it to be loaded is told, too."""
    place.sleep()
    place.refusal = UpstreamFailed("m could not be started: no header")
    status, _, answer = await ask(place, EMPTY + b"}")
    assert status == 502
    assert "no header" in str(answer["error"])
    assert place.house.failures != []


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_no_room(place: Place, path: str) -> None:
    """The caller is told when to come again, in its protocol, and nothing is held against the model (C6)."""
    place.sleep()
    place.refusal = QueueTimeout("models in use left no memory", retry_after=7)
    status, headers, answer = await ask(place, ASKS + b"}", path)
    assert (status, headers["retry-after"]) == (504, "7")
    assert "left no memory" in str(answer["error"])
    assert place.house.failures == []
    (record,) = await place.house.settled()
    assert record.outcome == "failed"
