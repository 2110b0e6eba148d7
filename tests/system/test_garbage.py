"""Bytes that are no request, or not quite: an answer or a closed connection, never a traceback, and others go on."""

import asyncio
import random
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from tests.system.harness import HELLO, House, chat, eventually

SEED = 20_26  # the same bytes every time
COUNT = 1_500  # on 16 connections at once: a few seconds
PATIENCE = 0.2  # seconds; a request that was cut short gets no answer, and the test need not wait for its time-out
STATUSES = {b"200", b"400", b"403", b"404", b"405", b"413", b"415", b"431"}
TALK = b'{"model":"hello-world","stream":false,"messages":[{"role":"user","content":"hi"}]}'
GOOD = [
    b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(TALK), TALK),
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (len(TALK), TALK),
    b"GET /v1/models/a%2fb HTTP/1.1\r\nHost: localhost:80\r\nConnection: keep-alive, x-mine\r\nX-Mine: 1\r\n\r\n",
    b'POST /v0/nodes HTTP/1.1\r\nHost: [::]\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"id":12}',
    b'POST /v0/nodes/attach HTTP/1.1\r\nHost: [::]\r\nContent-Length: 36\r\n\r\n{"url":"http://[::1","kind":"ollama"}',
    b"GET /v0/requests?limit=-1&model=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"DELETE /v0/nodes/%2e%2e HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
]
PIECES = [b"\r\n", b"\n", b"\0", b": ", b" ", b"\xff\xfe", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"]


def mutated(dice: random.Random) -> bytes:
    """A good request with a few bytes changed, added, removed; or cut; or followed by another."""
    data = bytearray(dice.choice(GOOD))
    for _ in range(dice.randint(0, 4)):
        at = dice.randrange(len(data) + 1)
        change = dice.choice(["flip", "add", "remove", "cut", "follow"])
        if change == "flip":
            data[at : at + 1] = dice.randbytes(1)
        elif change == "add":
            data[at:at] = dice.choice(PIECES)
        elif change == "remove":
            del data[at : at + dice.randint(1, 8)]
        elif change == "cut":
            del data[max(at, 1) :]
        else:
            data += dice.choice(GOOD)
    return bytes(data)


async def send(port: int, data: bytes, cut: int) -> bytes:
    """The status of the first answer; nothing where there was none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    with suppress(TimeoutError, ConnectionError):
        writer.write(data[:cut])
        await writer.drain()
        writer.write(data[cut:])
        answer = await asyncio.wait_for(reader.read(4096), PATIENCE)
    writer.transport.abort()
    return answer[9:12]


async def bombard(port: int) -> set[bytes]:
    dice = random.Random(SEED)  # noqa: S311 - the same every time is what is wanted
    requests = [(data := mutated(dice), dice.randrange(len(data) + 1)) for _ in range(COUNT)]
    found: set[bytes] = set()

    async def some(share: list[tuple[bytes, int]]) -> None:
        for data, cut in share:
            found.add(await send(port, data, cut))

    await asyncio.gather(*(some(requests[i::16]) for i in range(16)))
    return found


@pytest.mark.slow
def test_garbage_harms_nobody(house: House) -> None:
    """Router and node answer what can be answered and refuse the rest; no log holds a traceback (`house_in` looks)."""
    router = house.router()
    node = house.node(router, "node")
    eventually(lambda: router.is_online("node", model=HELLO), 60)
    for process in (router, node):
        port = urlsplit(process.url).port
        assert port
        assert asyncio.run(bombard(port)) - {b""} <= STATUSES

    assert chat(router.url, HELLO).status == 200
    eventually(lambda: router.node("node").in_flight == 0)
