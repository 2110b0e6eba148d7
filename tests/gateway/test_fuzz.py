"""Sixty seconds of requests and answers with something wrong in them, drawn anew each time.

What is looked at is a rule, not an expected answer: the gateway's own bytes are HTTP (h11 reads them), no exception
escapes, nothing is passed on behind an error of framing, and afterwards the gateway is as it was before.
"""

import asyncio
import os
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import TypeVar

import h11
import psutil
import pytest
from tests.gateway.conftest import BODY, WHOLE, Client, Conversation, House, answers, opened, until, whole
from tests.gateway.watching import nothing_escapes
from tests.wire import test_http1_against_h11 as oracle
from tests.wire.mutation import mutated, sliced
from tests.wire.smuggling import CORPUS, LEGAL, message

from llm_router.errors import ClientError
from llm_router.wire.http1 import RequestReader

T = TypeVar("T")

SECONDS = 60  # as CI is to spend on it
SEED = "LLM_ROUTER_FUZZ_SEED"  # environment: the seed that a failure printed
BATCH = 200  # messages between two looks at the whole
AT_ONCE = 8  # connections
PATIENCE = 5  # seconds for what has to happen at once
LINGER = 0.05  # seconds that an upstream waits, behind what is no whole answer, before it closes
MAX_BODY = 1000
GROWTH = 32  # MB from the end of the first batch on: two caches fill, of 512 heads up to 2 kB; pools fragment

LONGEST = 5000  # bytes; longer cases take their time, and are tested one by one elsewhere
REQUESTS = [
    *oracle.GOOD,
    *(data for data, _ in LEGAL.values()),
    *(case.bad for case in CORPUS if len(case.bad) < LONGEST),
    *(case.near for case in CORPUS if len(case.near) < LONGEST),
]
ANSWERS = oracle.GOOD_ANSWERS


@pytest.fixture
def seed() -> int:
    """Printed where the test fails; set it in the environment to see the same again."""
    seed = int(os.environ.get(SEED) or secrets.randbelow(10**9))
    print(f"{SEED}={seed}")  # noqa: T201 - pytest shows it with a failure, and only then
    return seed


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with nothing_escapes(), opened(tmp_path, max_body=MAX_BODY) as house:
        yield house


class Mutant:
    """A node that gives each request the answer which the test has put there for it, and sees what comes after it."""

    def __init__(self) -> None:
        self.answers: dict[bytes, list[bytes]] = {}
        self.reused: list[bytes] = []

    async def __call__(self, conversation: Conversation) -> None:
        while True:
            pieces = self.answers[_number(await conversation.request())]
            for piece in pieces:
                await conversation.send(piece)
            data = b"".join(pieces)
            if not may_stay(data):
                await self._linger(conversation)
                self.reused.append(data)
                return

    async def _linger(self, conversation: Conversation) -> None:
        """Raises IncompleteReadError where all is well; there is a moment for it, and then this side ends too."""
        try:
            async with asyncio.timeout(LINGER):
                await conversation.request()
        except TimeoutError:
            conversation.writer.write_eof()
            await conversation.request()


def may_stay(answer: bytes) -> bool:
    """Whether a connection may be used again behind these bytes, as h11 sees it; as we do where it errs."""
    stricter = oracle.has_bad_whitespace(answer) or oracle.has_framing_in_trailers(answer)
    seen = oracle.answer_by_us(answer) if stricter else oracle.answer_by_h11(answer)
    return seen.keep_alive and not seen.refused


def _number(request: bytes) -> bytes:
    return request.partition(b"\r\n")[0].split(b" ")[1].partition(b"?")[2]


class Bombardment:
    """Batches of mutants against one house."""

    def __init__(self, house: House, seed: int) -> None:
        self.house = house
        self.seed = seed
        self.batches = 0
        self.mutant = Mutant()
        self._process = psutil.Process()
        self._files = 0
        self._memory = 0

    async def start(self) -> None:
        await self.house.node("well", answers(whole()), models=["m"])
        await self.house.node("mutant", self.mutant, models=["mutant"])
        self._files = self._process.num_fds()

    async def run(self, seconds: float) -> None:
        end = monotonic() + seconds
        while monotonic() < end:
            dice = random.Random(f"{self.seed}-{self.batches}")  # noqa: S311 - to be drawn again
            await self._each(self.request, [sliced(mutated(REQUESTS, dice), dice) for _ in range(BATCH)])
            drawn = [sliced(mutated(ANSWERS, dice), dice) for _ in range(BATCH)]
            self.mutant.answers = {b"%d" % number: pieces for number, pieces in enumerate(drawn)}
            await self._each(self.answer, list(self.mutant.answers))
            await self._look()
            self.batches += 1

    async def _each(self, do: Callable[[T], Awaitable[None]], cases: list[T]) -> None:
        queue = iter(cases)

        async def some() -> None:
            for case in queue:
                await do(case)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(some())

    async def request(self, pieces: list[bytes]) -> None:
        """As many answers as our own reader sees requests, one more where it sees an error; then the end."""
        data = b"".join(pieces)
        methods, refused = foretold(data)
        client = await self.house.client()
        try:
            async with asyncio.timeout(PATIENCE):
                for piece in pieces:
                    await client.send(piece)
                await self._read_answers(client, methods, refused=refused)
        except TimeoutError:
            pytest.fail(f"no answer to {data!r}")
        except (h11.RemoteProtocolError, AssertionError) as error:
            pytest.fail(f"{error} in what was answered to {data!r}")
        except ConnectionError:
            assert refused is not False, data  # the gateway closed while there was still something to read
        finally:
            client.abort()

    async def _read_answers(self, client: Client, methods: list[bytes], *, refused: bool | None) -> None:
        rest = b""
        for method in methods:
            status, rest = await read_answer(client, method, rest)
            if not status:
                return
        if refused is None:
            return
        if not refused:
            assert rest == b""
        else:
            status, rest = await read_answer(client, b"POST", rest)
            assert status in {400, 408, 413, 431, 501, 505}
            assert rest + await client.rest() == b""

    async def answer(self, number: bytes) -> None:
        """Whatever the node says, the client gets HTTP: an answer of ours, one that h11 agrees on, or one cut off."""
        data = b"".join(self.mutant.answers[number])
        body = b'{"model":"mutant","stream":%b}' % (b"true" if int(number) % 2 else b"false")
        line = b"POST /v1/chat/completions?%b HTTP/1.1" % number
        length = b"Content-Length: %d" % len(body)
        client = await self.house.client()
        await client.send(message(b"Host: a", b"Connection: close", length, line=line, body=body))
        try:
            async with asyncio.timeout(PATIENCE):
                raw = await client.rest()
        except TimeoutError:
            pytest.fail(f"no end of what became of {data!r}")
        check_passed(data, raw)
        client.abort()

    async def _look(self) -> None:
        """A healthy request is answered; nothing is held; files and memory are what they were."""
        assert self.mutant.reused == []
        house = self.house
        client = await house.client()
        await client.post("/v1/chat/completions", BODY)
        assert (await client.answer())[::2] == (200, WHOLE)
        client.abort()
        house._clients.clear()  # noqa: SLF001 - they are over, and would fill the test's own memory
        await until(lambda: not house.gateway.clients and not house.plane.under_way)
        assert not any(node.in_flight for node in house.registry)
        assert house.plane.scheduler.waiting == 0
        while not house.records.empty():
            house.records.get_nowait()
        house.failures.clear()
        house.unreachable.clear()
        await self._look_at_process()

    async def _look_at_process(self) -> None:
        self.house.plane.pool.close()
        await until(lambda: self._process.num_fds() <= self._files)
        memory = self._process.memory_info().rss
        self._memory = self._memory or memory
        grown = (memory - self._memory) / 2**20
        assert grown < GROWTH, f"{grown:.0f} MB more than after the first batch"


def foretold(data: bytes) -> tuple[list[bytes], bool | None]:
    """The methods of the requests that our reader finds, up to the connection's last, and whether an error follows.

    None: that depends, since some answers to HTTP/1.0 end with their connection.
    """
    reader = RequestReader(max_body=MAX_BODY)
    refused = False
    try:
        reader.feed(data)
    except ClientError:
        refused = True
    methods = []
    for request in reader.ready:
        methods.append(request.head.method)
        if request.head.http10:
            return methods, None
        if not request.keep_alive:
            return methods, False
    return methods, refused


async def read_answer(client: Client, method: bytes, begun: bytes) -> tuple[int, bytes]:
    """Status of the next answer (0: the end came instead), and the bytes after it; h11 vouches for its form."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    if begun:
        connection.receive_data(begun)
    status = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await client.reader.read(65536)
            if not data and not status:
                return 0, b""
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif not isinstance(event, h11.Data | h11.InformationalResponse):
            return status, connection.trailing_data[0]


def check_passed(data: bytes, raw: bytes) -> None:
    """What the client got, against what the node sent, both as h11 reads them."""
    sent, got = oracle.answer_by_h11(data), oracle.answer_by_h11(raw)
    if oracle.has_framing_in_trailers(data):  # h11 refuses what it says nothing about
        return
    if got.refused:  # cut off: then there was a reason to
        assert oracle.answer_by_us(data).refused, (data, raw)
    elif got.status != 502 and not oracle.has_bad_whitespace(data):
        assert not sent.refused, (data, raw)
        assert (got.status, got.body) == (sent.status, sent.body), (data, raw)


@pytest.mark.slow
@pytest.mark.long
async def test_a_minute_of_it(house: House, seed: int) -> None:
    """No exception escapes, no connection is used again behind an error, others are served, nothing is left over."""
    bombardment = Bombardment(house, seed)
    await bombardment.start()
    await bombardment.run(SECONDS)


async def test_a_moment_of_it(house: House) -> None:
    """The same few every time, so that the test above is known to work before somebody has a minute."""
    bombardment = Bombardment(house, 1)
    await bombardment.start()
    await bombardment.run(0.5)
    assert bombardment.batches
