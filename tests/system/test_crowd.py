"""Two hundred clients at once, some of whom leave, at two small nodes, one of which is killed (requirements B3 to B7).

Every request ends once, in a way that its client can tell, and is written down once; nothing is left of any of them.
"""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from typing import Literal, NamedTuple

import msgspec
import pytest
from tests.system.harness import API, Answer, House, Process, error_of, eventually, parse, question

SEED = 20_26  # the same crowd every time
CLIENTS = 200  # all at once
EACH = 2  # requests of a client, one after another
SLOTS = 2  # of each node
# Seconds: an answer takes 0.03, so that all of them are over soon, and its first word is due after the node has heard
# of a client that left before.
PACE = {"tokens": 5, "delay": 0.004, "first_delay": 0.01}
LEAVING = 0.2  # the share of requests that their clients give up after a while; most of these wait in the queue then
PATIENCE = 2.0  # seconds, at most, until they do: all but a few of the others are answered sooner
SATISFIED = 0.2  # the share of requests whose clients leave when they have seen the first bytes of an answer
KILLED_AFTER = 100  # answers
ALLOWED = (502, 503, 504)  # the chosen node failed; nobody can answer; it took too long (docs/reference/api.md)
LAST = {"ollama": b'"done":true', "openai": b"data: [DONE]", "anthropic": b"event: message_stop"}

Ending = Literal["answered", "left", "refused", "broken"]
RECORDED: dict[Ending, set[str]] = {
    "answered": {"done"},
    "left": {"cancelled", "done", "broken", "failed"},  # it may have been over when the client left
    "refused": {"failed", "refused"},
    "broken": {"broken"},
}


class Plan(NamedTuple):
    """What a client does with one request. `patience`: seconds, None: without end; `first`: its first bytes will do."""

    id: str
    api: str
    stream: bool
    patience: float | None
    first: bool

    def bytes(self) -> bytes:
        body = msgspec.json.encode(question("fake") | {"stream": self.stream})
        lines = (
            f"POST {API[self.api]} HTTP/1.1",
            "Host: localhost",
            "Connection: close",
            f"X-Request-Id: {self.id}",
            f"Content-Length: {len(body)}",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def plans() -> list[Plan]:
    dice = random.Random(SEED)  # noqa: S311 - the same every time is what is wanted
    return [
        Plan(
            id=f"crowd-{i}",
            api=dice.choice(list(API)),
            stream=dice.random() < 0.5,
            patience=dice.uniform(0, PATIENCE) if dice.random() < LEAVING else None,
            first=dice.random() < SATISFIED,
        )
        for i in range(CLIENTS * EACH)
    ]


class Crowd:
    """The clients. `endings` is how their requests ended, by id."""

    def __init__(self, url: str, victim: Process) -> None:
        self._host, self._port = url.removeprefix("http://").split(":")
        self._victim = victim
        self._answered = 0
        self.endings: dict[str, Ending] = {}

    async def come(self) -> None:
        """All of them, until each has made its requests."""
        everything = plans()
        async with asyncio.TaskGroup() as clients:
            for i in range(CLIENTS):
                clients.create_task(self._client(everything[i::CLIENTS]))

    async def _client(self, own: list[Plan]) -> None:
        for plan in own:
            ending = self.endings[plan.id] = await self._request(plan)
            self._answered += ending == "answered"
            if ending == "answered" and self._answered == KILLED_AFTER:
                self._victim.kill()

    async def _request(self, plan: Plan) -> Ending:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(plan.bytes())
            await writer.drain()
            async with asyncio.timeout(plan.patience):
                received = await reader.read(1) if plan.first else await everything_of(reader)
        except TimeoutError:
            return "left"
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        return "left" if plan.first else ending_of(plan, parse(received))


async def everything_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, in whatever way."""
    received = b""
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            received += piece
    return received


def ending_of(plan: Plan, answer: Answer) -> Ending:
    """How it ended for a client that stayed; fails if that is none of the ways that docs/reference/api.md allows."""
    if answer.status != 200:
        assert answer.status in ALLOWED, answer
        assert error_of(plan.api, answer.json(), answer.status)
        return "refused"
    if not answer.whole:
        assert plan.stream, answer
        assert error_of(plan.api, answer.records()[-1], 502)
        return "broken"
    assert LAST[plan.api] in answer.body if plan.stream else answer.json()
    return "answered"


@pytest.mark.slow
def test_crowd(house: House) -> None:
    """Nobody is forgotten, nobody is served twice, no node works for more than it has slots, and it is quiet after."""
    router = house.router("--queue-size", "1000")
    fakes = [house.fake(name, **PACE) for name in ("victim", "survivor")]
    for fake in fakes:
        router.attach(fake, slots=SLOTS)
    victim, survivor = fakes

    crowd = Crowd(router.url, victim)
    asyncio.run(crowd.come())

    ended = Counter(crowd.endings.values())
    assert ended.total() == CLIENTS * EACH
    assert ended["answered"] > KILLED_AFTER
    assert ended["left"] > 0
    eventually(lambda: [n.in_flight for n in router.nodes().values()] == [0, 0])
    eventually(lambda: survivor.seen().in_flight == 0)
    assert survivor.seen().peak == SLOTS
    assert router.node("survivor").excluded == []

    records = {record.id: record for record in router.requests()}
    assert len(router.requests()) == len(records) == CLIENTS * EACH
    assert [i for i, e in crowd.endings.items() if records[i].outcome not in RECORDED[e]] == []
    assert survivor.seen().requests <= sum(record.node == "survivor" for record in records.values())
