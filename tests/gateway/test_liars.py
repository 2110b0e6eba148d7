"""Upstreams that do not keep to HTTP: 502 or an error within the stream, and their connection is never used again.

What the client gets is told by h11: a complete error of ours, or an answer that is plainly not complete.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import h11
import pytest
from tests.gateway.conftest import (
    BODY,
    SSE_HEAD,
    STREAM,
    WHOLE,
    Client,
    Conversation,
    House,
    Script,
    Upstream,
    answers,
    chunk,
    opened,
    post,
    whole,
)
from tests.gateway.watching import nothing_escapes

PATIENCE = 10  # seconds within which a lie that is complete has been noticed
OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(WHOLE)
CODING = b"Transfer-Encoding: chunked\r\n"
CHUNKS = chunk(WHOLE) + b"0\r\n\r\n"
POISON = whole(b'{"poison":1}')


def sized(*fields: bytes, line: bytes = OK) -> bytes:
    return line + JSON + LENGTH + b"".join(fields) + b"\r\n" + WHOLE


def in_chunks(*fields: bytes, line: bytes = OK, body: bytes = CHUNKS) -> bytes:
    return line + JSON + CODING + b"".join(fields) + b"\r\n" + body


# No answer at all: the client is told 502. RFC 9112 §6.3 for framing, §5 for fields, §4 for the status line.
HEADS = {
    "two lengths": sized(b"Content-Length: 3\r\n"),
    "two equal lengths": sized(LENGTH),
    "length and coding": sized(CODING),
    "coding and length": in_chunks(LENGTH),
    "signed length": sized().replace(b"Length: ", b"Length: +"),
    "negative length": sized().replace(b"Length: ", b"Length: -"),
    "list of lengths": sized().replace(LENGTH, LENGTH[:-2] + b", %d\r\n" % len(WHOLE)),
    "empty length": sized().replace(LENGTH, b"Content-Length: \r\n"),
    "hexadecimal length": sized().replace(LENGTH, b"Content-Length: 0x3f\r\n"),
    "length with an underscore": sized().replace(b"Length: ", b"Length: 0_"),
    "length beyond all numbers": sized().replace(LENGTH, b"Content-Length: " + b"9" * 30 + b"\r\n"),
    "unknown coding": in_chunks().replace(b"chunked", b"xchunked"),
    "chunked twice": in_chunks().replace(b"chunked", b"chunked, chunked"),
    "two codings": in_chunks().replace(b"chunked", b"gzip, chunked"),
    "coding that is none": in_chunks().replace(b"chunked", b"identity"),
    "coding in two fields": in_chunks(CODING),
    "coding with a vertical tab": in_chunks().replace(b"chunked", b"\x0bchunked"),
    "not HTTP": b"SSH-2.0-OpenSSH_9\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": WHOLE,
    "HTTP/2": sized(line=b"HTTP/2.0 200 OK\r\n"),
    "no status": sized(line=b"HTTP/1.1 OK\r\n"),
    "status of two digits": sized(line=b"HTTP/1.1 20 OK\r\n"),
    "status of four digits": sized(line=b"HTTP/1.1 2000 OK\r\n"),
    "status 000": sized(line=b"HTTP/1.1 000 OK\r\n"),
    "status with a sign": sized(line=b"HTTP/1.1 +20 OK\r\n"),
    "two spaces before the status": sized(line=b"HTTP/1.1  200 OK\r\n"),
    "NUL in the reason": sized(line=b"HTTP/1.1 200 O\0K\r\n"),
    "bare CR in the reason": sized(line=b"HTTP/1.1 200 O\rK\r\n"),
    "a head that is too long": sized(b"X-A: " + b"x" * 70_000 + b"\r\n"),
    "a head without an end": OK + b"X-A: " + b"x" * 70_000,
    "too many headers": sized(b"X-A: 1\r\n" * 101),
    "100 unasked": b"HTTP/1.1 100 Continue\r\n\r\n" + sized(),
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + sized(),
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "folded field": sized(b"X-A: 1\r\n 2\r\n"),
    "fold that is a field": sized(b"X-A: 1\r\n Set-Cookie: a=b\r\n"),
    "bare LF for every line end": sized().replace(b"\r\n", b"\n"),
    "bare LF after the status line": sized().replace(b"\r\n", b"\n", 1),
    "bare LF in a value": sized(b"X-A: 1\nSet-Cookie: a=b\r\n"),
    "bare CR in a value": sized(b"X-A: 1\rSet-Cookie: a=b\r\n"),
    "NUL in a value": sized(b"X-A: 1\x002\r\n"),
    "control character in a value": sized(b"X-A: \x01\r\n"),
    "NUL in a name": sized(b"X-\0A: 1\r\n"),
    "space before a colon": sized(b"X-A : 1\r\n"),
    "space before a colon of the length": sized().replace(b"Length:", b"Length :"),
    "no name": sized(b": 1\r\n"),
    "no colon": sized(b"X-A\r\n"),
    "more than its length": sized() + b"x",
    "a second answer behind its length": sized() + POISON,
    "a second answer behind a length of 0": OK + b"Content-Length: 0\r\n\r\n" + POISON,
    "a second answer behind the last chunk": in_chunks() + POISON,
    "an empty line behind the last chunk": in_chunks() + b"\r\n",
    "a body behind 204": b"HTTP/1.1 204 No Content\r\n\r\n" + POISON,
    "a body behind 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 12\r\n\r\n" + POISON,
    "chunk size that is none": in_chunks(body=b"zz\r\n"),
    "chunk size beyond all numbers": in_chunks(body=b"f" * 17 + b"\r\n"),
    "negative chunk size": in_chunks(body=b"-1\r\n"),
    "empty chunk size": in_chunks(body=b"\r\n" + CHUNKS),
    "LF after a chunk size": in_chunks(body=CHUNKS.replace(b"\r\n", b"\n", 1)),
    "chunk data longer than its size": in_chunks(body=b"3\r\nabcdef\r\n0\r\n\r\n"),
    "LF after chunk data": in_chunks(body=b"3\r\nabc\n0\r\n\r\n"),
    "NUL in a trailer": in_chunks(body=CHUNKS[:-2] + b"X-A: \0\r\n\r\n"),
    "trailer that is no field": in_chunks(body=CHUNKS[:-2] + b"poison\r\n\r\n"),
}

# The same where the answer has begun and the client has a part of it.
BODIES = {
    "chunk size that is none": b"zz\r\n",
    "chunk size beyond all numbers": b"f" * 17 + b"\r\n",
    "negative chunk size": b"-1\r\n",
    "no chunk at all": b"data: 2\n\n",
    "LF after a chunk size": b"3\nabc\r\n0\r\n\r\n",
    "chunk data longer than its size": b"3\r\nabcdef\r\n0\r\n\r\n",
    "an answer instead of a chunk": POISON,
    "an answer behind the last chunk": b"0\r\n\r\n" + POISON,
    "garbage behind the last chunk": b"0\r\n\r\nx",
    "garbage instead of the end": b"0\r\nx\0\r\n\r\n",
}

EARLY_ENDS = {
    "no answer": b"",
    "in the status line": b"HTTP/1.1 2",
    "in the head": OK + b"Content-Le",
    "before the body": OK + LENGTH + b"\r\n",
    "in a body with a length": sized()[:-1],
    "before the first chunk": in_chunks(body=b""),
    "in a chunk size": in_chunks(body=b"3f"),
    "in a chunk": in_chunks(body=CHUNKS[:20]),
    "before the last chunk": in_chunks(body=chunk(WHOLE)),
    "before the end of the last chunk": in_chunks(body=CHUNKS[:-2]),
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with nothing_escapes(), opened(tmp_path) as house:
        yield house


class Liar:
    """Says this to the first request of a connection, and then listens for what the gateway still has to say there."""

    def __init__(self, lie: bytes, *, closes: bool = False) -> None:
        self._lie = lie
        self._closes = closes
        self.heard_more = False

    async def __call__(self, conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(self._lie)
        if not self._closes:
            await conversation.request()
            self.heard_more = True


async def ending(client: Client) -> bytes:
    """All that the client gets until its connection ends, which it is asked to."""
    async with asyncio.timeout(PATIENCE):
        return await client.rest()


def told(raw: bytes) -> tuple[int, bytes, bool]:
    """Status, body and whether it is complete, as h11 sees it."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    connection.receive_data(b"")
    status, body = 0, b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return status, body, False
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            assert connection.trailing_data[0] == b""
            return status, body, isinstance(event, h11.EndOfMessage)


async def asked(house: House, body: bytes) -> tuple[int, bytes, bool]:
    return told(await ending(await post(house, body, headers="Connection: close\r\n")))


async def assert_not_reused(house: House, upstream: Upstream, liar: Liar) -> None:
    """The next request goes to a new connection and gets its own answer, the whole of it."""
    assert await asked(house, BODY) == (200, WHOLE, True)
    assert upstream.connections == 2
    assert not liar.heard_more
    await house.settled(2)


class TestHeads:
    @pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
    @pytest.mark.parametrize("name", HEADS)
    async def test_it_is_502(self, house: House, name: str, body: bytes) -> None:
        """Nothing of it reaches the client but that its node failed."""
        liar = Liar(HEADS[name])
        upstream = await house.node("one", liar, answers(whole()))
        status, text, complete = await asked(house, body)
        assert (status, complete) == (502, True)
        assert b'"error"' in text
        assert b"poison" not in text
        assert [node for node, _ in house.failures] == ["one"]
        await assert_not_reused(house, upstream, liar)

    async def test_another_node_answers_instead(self, house: House) -> None:
        """B5: a node that fails before the client has anything is replaced."""
        for name, lie in HEADS.items():
            body = b'{"model":"%b"}' % name.encode()
            liar = await house.node(name, Liar(lie), models=[name])
            await house.node(f"beside {name}", answers(whole()), models=[name])
            assert await asked(house, body) == (200, WHOLE, True), name
            assert await asked(house, body) == (200, WHOLE, True), name
            assert liar.connections >= 1, name

    async def test_the_clients_connection_goes_on(self, house: House) -> None:
        """What is wrong upstream is not the client's fault: the next answer on its connection is the next one's own."""
        await house.node("one", *[Liar(lie) for lie in HEADS.values()], answers(whole()))
        client = await house.client()
        for name in HEADS:
            await client.post("/v1/chat/completions", BODY)
            async with asyncio.timeout(PATIENCE):
                status, _, text = await client.answer()
            assert (status, b"poison" in text) == (502, False), name
        await client.post("/v1/chat/completions", BODY)
        assert (await client.answer())[::2] == (200, WHOLE)

    async def test_in_pieces(self, house: House) -> None:
        """What has passed before it showed is not complete, and nothing of a second answer is in it."""
        for name, lie in HEADS.items():
            await house.node(name, self._trickling(lie), models=[name])
            status, text, complete = await asked(house, b'{"model":"%b"}' % name.encode())
            assert (status, complete) in {(502, True), (200, False)}, name
            assert b"poison" not in text, name

    def _trickling(self, lie: bytes) -> Script:
        async def script(conversation: Conversation) -> None:
            await conversation.request()
            step = 7 if len(lie) < 1000 else 7000
            for at in range(0, len(lie), step):
                await conversation.send(lie[at : at + step])
            await conversation.closed()

        return script


class TestBodies:
    @pytest.mark.parametrize("name", BODIES)
    async def test_the_stream_is_not_complete(self, house: House, name: str) -> None:
        """B5: what came is passed on, then an error in the stream or the end; never the end of a whole answer."""
        begun = asyncio.Event()
        liar = Liar(b"")

        async def script(conversation: Conversation) -> None:
            await conversation.request()
            await conversation.send(SSE_HEAD + chunk(b"data: 1\n\n"))
            await begun.wait()
            await conversation.send(BODIES[name])
            await conversation.request()
            liar.heard_more = True

        upstream = await house.node("one", script, answers(whole()))
        client = await post(house, STREAM, headers="Connection: close\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        first = await client.reader.readexactly(len(chunk(b"data: 1\n\n")))
        begun.set()
        status, text, complete = told(head + first + await ending(client))
        assert (status, text[:9], complete) == (200, b"data: 1\n\n", False)
        assert b"poison" not in text
        assert [node for node, _ in house.failures] == ["one"]
        await assert_not_reused(house, upstream, liar)


class TestEarlyEnds:
    @pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
    @pytest.mark.parametrize("name", EARLY_ENDS)
    async def test_it_is_502_or_not_complete(self, house: House, name: str, body: bytes) -> None:
        """B5: no client takes the half of an answer for a whole one."""
        liar = Liar(EARLY_ENDS[name], closes=True)
        upstream = await house.node("one", liar, answers(whole()))
        status, _, complete = await asked(house, body)
        assert (status, complete) in {(502, True), (200, False)}
        await assert_not_reused(house, upstream, liar)


class TestReuse:
    async def test_a_second_answer_that_comes_later(self, house: House) -> None:
        """Bytes on a connection that lies idle are nobody's answer: the connection ends (response queue poisoning)."""
        taken, ended = asyncio.Event(), asyncio.Event()

        async def script(conversation: Conversation) -> None:
            await conversation.request()
            await conversation.send(whole())
            await taken.wait()
            await conversation.send(POISON)
            await conversation.closed()
            ended.set()

        upstream = await house.node("one", script, answers(whole()))
        client = await post(house)
        assert (await client.answer())[2] == WHOLE
        await house.record()
        taken.set()
        await asyncio.wait_for(ended.wait(), 5)
        await client.post("/v1/chat/completions", BODY)
        assert (await client.answer())[::2] == (200, WHOLE)
        assert upstream.connections == 2

    @pytest.mark.parametrize("status", [b"200 OK", b"413 Content Too Large"])
    async def test_an_answer_before_the_request_was_read(self, house: House, status: bytes) -> None:
        """The answer may pass; what is left of the request must not be followed by another one (CL.0)."""
        answered = asyncio.Event()
        liar = Liar(b"")

        async def script(conversation: Conversation) -> None:
            await conversation.reader.readuntil(b"\r\n\r\n")
            await conversation.send(whole(b'{"early":1}', status))
            await answered.wait()
            while data := await conversation.reader.read(65536):
                if b"POST " in data:
                    liar.heard_more = True
                    await conversation.send(POISON)

        upstream = await house.node("one", script, answers(whole()))
        big = b'{"model":"m","x":"' + b"x" * 20_000_000 + b'"}'
        found, _, complete = await asked(house, big)
        assert (found, complete) in {(int(status[:3]), True), (502, True)}
        answered.set()
        await assert_not_reused(house, upstream, liar)

    async def test_an_answer_before_anything_was_asked(self, house: House) -> None:
        """Whoever speaks first does not speak HTTP; nobody waits for ever, nobody gets the second of two answers."""

        async def script(conversation: Conversation) -> None:
            await conversation.send(POISON + POISON)
            await conversation.closed()

        upstream = await house.node("one", script, answers(whole()))
        assert (await asked(house, BODY))[0] == 502
        assert await asked(house, BODY) == (200, WHOLE, True)
        assert upstream.connections == 2

    @pytest.mark.parametrize(
        "answer",
        [
            sized(b"Connection: close\r\n"),
            sized(b"Connection: x, Close\r\n"),
            sized(line=b"HTTP/1.0 200 OK\r\n"),
            in_chunks(b"Connection: keep-alive\r\n", line=b"HTTP/1.0 200 OK\r\n"),
        ],
        ids=["close", "close in a list", "HTTP/1.0", "chunked HTTP/1.0"],
    )
    async def test_an_honest_last_answer(self, house: House, answer: bytes) -> None:
        """A connection whose end was announced, or whose framing cannot be trusted (RFC 9112 §6.1), is used once."""
        liar = Liar(answer)
        upstream = await house.node("one", liar, answers(whole()))
        status, _, complete = await asked(house, BODY)
        assert (status, complete) in {(200, True), (502, True)}
        await assert_not_reused(house, upstream, liar)


class TestHeadRequests:
    async def test_a_refusal_has_no_body(self, house: House) -> None:
        """It would be taken for the next answer (RFC 9110 §9.3.2): the control app lies, and the client asks again."""
        house.plane.control = (await house.node("control", Liar(POISON), answers(whole()))).address
        client = await house.client()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.head())[0] in {200, 502}
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert told(await ending(client)) == (200, WHOLE, True)


class TestHeaders:
    async def test_what_is_ours_to_say_is_said_by_us(self, house: House) -> None:
        """B1: an upstream's own copies of our headers, and those that were for its hop, do not pass."""
        own = b"X-Request-Id: theirs\r\nX-LLM-Router-Node: theirs\r\nX-Queue-Wait-Ms: 9\r\nKeep-Alive: timeout=1\r\n"
        hop = b"Connection: keep-alive, X-Hop\r\nX-Hop: theirs\r\nProxy-Authenticate: theirs\r\nUpgrade: theirs\r\n"
        await house.node("one", answers(sized(own, hop)))
        raw = await ending(await post(house, headers="Connection: close\r\n"))
        head = raw.partition(b"\r\n\r\n")[0].lower()
        assert b"theirs" not in head
        names = re.findall(rb"\r\n([^:]+):", head)
        assert sorted({*names}) == sorted(names)
        assert told(raw) == (200, WHOLE, True)
