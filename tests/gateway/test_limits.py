"""Each limit has an error of its own, which names the setting; ids and trace contexts pass."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import msgspec
import pytest
from tests.gateway.conftest import (
    BODY,
    SSE_HEAD,
    STREAM,
    WHOLE,
    Client,
    Conversation,
    Held,
    House,
    answers,
    chunk,
    opened,
    post,
    until,
    whole,
)

from llm_router.contract import Address
from llm_router.core.health import Signal, State
from llm_router.core.node import EVERY_DIALECT, Node
from llm_router.gateway import server

PATHS = ["/api/chat", "/v1/chat/completions", "/v1/messages", "/v0/nodes"]
INFERENCE = PATHS[:3]
RECORDS = {  # of a stream, as its API writes them; and how one begins that tells an error
    "/api/chat": (b'{"model":"m","done":false}\n', b'{"error":"'),
    "/v1/chat/completions": (b"data: {}\n\n", b'data: {"error":'),
    "/v1/messages": (b"event: ping\ndata: {}\n\n", b"event: error\ndata: "),
}
ASK = b'{"model":"m","stream":false,"messages":[{"role":"user","content":"x"}]}'
LAST = b"0\r\n\r\n"


class Clock:
    """The gateway's own, which can be put forward."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._ahead = 0.0
        house.plane.now = self

    def __call__(self) -> float:
        return monotonic() + self._ahead

    def passes(self, seconds: float) -> None:
        """The gateway looks after its clients, time passes, and it looks again."""
        self._house.look()
        self._ahead += seconds
        self._house.look()


class Fed:
    """A script that reads one request and sends what it is given, piece by piece; b"" ends the connection."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.say = self._pieces.put_nowait
        self.conversation: Conversation | None = None

    async def __call__(self, conversation: Conversation) -> None:
        await conversation.request()
        self.conversation = conversation
        while piece := await self._pieces.get():
            await conversation.send(piece)


@asynccontextmanager
async def timed(home: Path, **settings: float) -> AsyncIterator[tuple[House, Clock]]:
    async with opened(home, **settings) as house:
        yield house, Clock(house)


async def heard(house: House) -> None:
    """Until the gateway has read what was sent to it before: it reads in the order of arrival."""
    client = await house.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer())[0] == 200
    client.abort()


def said(path: str, body: bytes) -> str:
    """The message of an error, which has to have the shape that the path's API gives it."""
    read = msgspec.json.decode(body)
    if path.startswith("/api/"):
        assert list(read) == ["error"]
        return str(read["error"])
    assert ("type" in read) is (path == "/v1/messages")
    return str(read["error"]["message"])


def names(setting: str, text: str) -> bool:
    """Whether a text says which setting it is about, in whichever way it is written."""
    return setting in text.replace("-", "_").lower()


async def refused(client: Client, path: str, status: int, setting: str) -> None:
    """One error, in the shape of the path's API, and the end of the connection."""
    code, headers, body = await client.answer()
    assert (code, headers["connection"]) == (status, "close")
    assert headers["x-request-id"]
    assert names(setting, said(path, body))
    assert await client.rest() == b""


def head(path: str, *lines: str) -> bytes:
    """A request's head without its end."""
    return "".join(f"{line}\r\n" for line in (f"POST {path} HTTP/1.1", "Host: a", *lines)).encode()


@pytest.mark.parametrize("path", PATHS)
class TestHeads:
    async def test_one_that_is_too_large_is_431(self, tmp_path: Path, path: str) -> None:
        """Complete or not, in one header or in the target."""
        async with opened(tmp_path, max_head=1000) as house:
            for large in (
                head(path, "X: " + "x" * 1000, "Content-Length: 0") + b"\r\n",
                head(path, *["X: " + "x" * 90] * 11, "Content-Length: 0") + b"\r\n",
                head(path, "X: " + "x" * 1000)[:-2],
                head(path + "?" + "x" * 1000, "Content-Length: 0") + b"\r\n",
            ):
                client = await house.client()
                await client.send(large)
                await refused(client, path, 431, "max_head")

    async def test_one_that_grows_too_large_is_431(self, tmp_path: Path, path: str) -> None:
        """However small the pieces in which it comes."""
        async with opened(tmp_path, max_head=1000) as house:
            client = await house.client()
            await client.send(head(path))
            for _ in range(11):
                await client.send(b"X: " + b"x" * 85 + b"\r\n")
                await heard(house)
            await refused(client, path, 431, "max_head")

    async def test_one_of_too_many_headers_is_431(self, tmp_path: Path, path: str) -> None:
        """Each costs time and memory of its own, however short it is."""
        async with opened(tmp_path, max_headers=5) as house:
            client = await house.client()
            await client.send(head(path, "A: 1", "A: 2", "B: 3", "Content-Length: 0", "C:") + b"\r\n")
            await refused(client, path, 431, "max_headers")

    async def test_one_within_the_limits_is_none_the_worse(self, tmp_path: Path, path: str) -> None:
        """As many headers as may be, and nearly as many bytes; again and again on one connection."""
        async with opened(tmp_path, max_head=1000, max_headers=5) as house:
            await house.node("one", answers(whole()))
            client = await house.client()
            length = f"Content-Length: {len(BODY)}"
            for _ in range(3):
                await client.send(head(path, "A: " + "x" * 800, "B: 1", "C: 1", length) + b"\r\n" + BODY)
                assert (await client.answer())[0] == 200

    async def test_one_that_takes_too_long_is_408(self, tmp_path: Path, path: str) -> None:
        """However often a byte of it comes."""
        async with timed(tmp_path, head_timeout=10) as (house, clock):
            client = await house.client()
            await client.send(head(path))
            await heard(house)
            clock.passes(6)
            await client.send(b"X: ")
            await heard(house)
            clock.passes(5)
            await refused(client, path, 408, "head_timeout")

    async def test_one_that_takes_nearly_as_long_is_served(self, tmp_path: Path, path: str) -> None:
        """And the next one has its time anew."""
        async with timed(tmp_path, head_timeout=10) as (house, clock):
            await house.node("one", answers(whole()))
            client = await house.client()
            for _ in range(2):
                await client.send(head(path, f"Content-Length: {len(BODY)}"))
                await heard(house)
                clock.passes(9)
                await client.send(b"\r\n" + BODY)
                assert (await client.answer())[0] == 200


@pytest.mark.parametrize("path", PATHS)
class TestBodies:
    @pytest.mark.parametrize("expects", [(), ("Expect: 100-continue",)])
    async def test_one_that_will_be_too_large_is_413(self, tmp_path: Path, path: str, expects: tuple[str, ...]) -> None:
        """Before any of it has come, and instead of `100 Continue`."""
        async with opened(tmp_path, max_body=100) as house:
            client = await house.client()
            await client.send(head(path, "Content-Length: 101", *expects) + b"\r\n")
            await refused(client, path, 413, "max_body")

    async def test_one_that_grows_too_large_is_413(self, tmp_path: Path, path: str) -> None:
        """Chunks do not say how many there will be."""
        async with opened(tmp_path, max_body=100) as house:
            client = await house.client()
            await client.send(head(path, "Transfer-Encoding: chunked") + b"\r\n" + chunk(b"x" * 60))
            await heard(house)
            await client.send(chunk(b"x" * 60))
            await refused(client, path, 413, "max_body")

    async def test_one_of_just_the_limit_passes(self, tmp_path: Path, path: str) -> None:
        """The limit is the last size that is allowed, chunked or not."""
        async with opened(tmp_path, max_body=len(BODY)) as house:
            await house.node("one", answers(whole()))
            client = await post(house, BODY, path)
            assert (await client.answer())[0] == 200
            await client.send(head(path, "Transfer-Encoding: chunked") + b"\r\n" + chunk(BODY) + LAST)
            assert (await client.answer())[0] == 200

    async def test_who_is_still_sending_hears_of_it(self, tmp_path: Path, path: str) -> None:
        """A connection that is cut under a client takes the answer with it (RFC 9112 §9.6)."""
        async with opened(tmp_path, max_body=100) as house:
            client = await house.client()
            client.writer.write(head(path, "Content-Length: 8000000") + b"\r\n" + b"x" * 8_000_000)
            status, _, body = await client.answer()
            assert (status, names("max_body", said(path, body))) == (413, True)

    async def test_one_that_stands_still_is_408(self, tmp_path: Path, path: str) -> None:
        """At its beginning, or in its middle."""
        async with timed(tmp_path, body_timeout=30) as (house, clock):
            for beginning in (b"", b"ab"):
                client = await house.client()
                await client.send(head(path, "Content-Length: 9") + b"\r\n" + beginning)
                await heard(house)
                clock.passes(31)
                await refused(client, path, 408, "body_timeout")

    async def test_one_that_moves_is_served_however_long_it_takes(self, tmp_path: Path, path: str) -> None:
        """The time is counted anew with every byte."""
        async with timed(tmp_path, body_timeout=30) as (house, clock):
            await house.node("one", answers(whole()))
            client = await house.client()
            await client.send(head(path, f"Content-Length: {len(BODY)}") + b"\r\n")
            for byte in BODY[:5]:
                await client.send(b"%c" % byte)
                await heard(house)
                clock.passes(29)
            await client.send(BODY[5:])
            assert (await client.answer())[0] == 200


class TestIdling:
    async def test_after_an_answer_a_connection_is_held_for_its_time(self, tmp_path: Path) -> None:
        """Then it ends without a word: an answer that nobody asked for would be taken for the next one."""
        async with timed(tmp_path, idle_timeout=75) as (house, clock):
            client = await house.client()
            for _ in range(2):
                await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await client.answer())[0] == 200
                clock.passes(74)
            clock.passes(2)
            assert await client.rest() == b""

    async def test_who_waits_for_an_answer_is_not_idle(self, tmp_path: Path) -> None:
        """Nor are those who have not sent all of a request."""
        async with timed(tmp_path, idle_timeout=5, body_timeout=1000) as (house, clock):
            script = Held(whole())
            await house.node("one", script)
            waiting, sending = await post(house), await house.client()
            await sending.send(head("/", f"Content-Length: {len(BODY)}") + b"\r\n")
            await script.asked.wait()
            await heard(house)
            clock.passes(100)
            script.go.set()
            await sending.send(BODY)
            assert (await waiting.answer())[0] == 200
            assert (await sending.answer())[0] == 200

    async def test_everybody_is_looked_after(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many there are: some at a time, so that no token has to wait for it."""
        monkeypatch.setattr(server, "SLICE", 2)
        monkeypatch.setattr(server, "SWEEP_EVERY", 0.01)
        async with opened(tmp_path, idle_timeout=0.02) as house:
            for client in [await house.client() for _ in range(5)]:
                assert await asyncio.wait_for(client.rest(), 5) == b""


class TestConnections:
    async def test_one_too_many_is_503_and_disturbs_nobody(self, tmp_path: Path) -> None:
        """It hears when to come back; streams and idle connections go on; who leaves makes room."""
        async with opened(tmp_path, max_connections=2) as house:
            fed = Fed()
            await house.node("one", fed)
            idle, streaming = await house.client(), await post(house, STREAM)
            fed.say(SSE_HEAD + chunk(b"data: 1\n\n"))
            await streaming.head()
            assert await streaming.chunk() == b"data: 1\n\n"
            await idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await idle.answer()
            for _ in range(3):
                surplus = await post(house)
                status, headers, body = await surplus.answer()
                assert (status, headers["connection"]) == (503, "close")
                assert int(headers["retry-after"]) >= 1
                assert names("max_connections", body.decode())
                assert await surplus.rest() == b""
            fed.say(chunk(b"data: 2\n\n") + LAST)
            assert await streaming.chunks() == [b"data: 2\n\n"]
            await idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await idle.answer())[0] == 200
            idle.abort()
            await until(lambda: len(house.gateway.clients) == 1)
            await heard(house)
            await house.settled()


class TestConnecting:
    @pytest.mark.parametrize("path", INFERENCE)
    async def test_a_node_that_does_not_take_the_connection_is_504(self, tmp_path: Path, path: str) -> None:
        """Here it takes it and says nothing to a TLS handshake, which is a part of connecting."""

        async def silent(conversation: Conversation) -> None:
            await conversation.closed()

        async with opened(tmp_path, connect_timeout=0.05) as house:
            plain = await house.node("plain", silent, models=())
            address = Address("127.0.0.1", plain.address.port, tls=True)
            node = Node("one", "one", "openai", address, dialects=EVERY_DIALECT, state=State.ONLINE, models=("m",))
            house.registry.add(node, 0.0)
            client = await post(house, BODY, path)
            status, _, body = await client.answer()
            assert (status, names("connect_timeout", said(path, body))) == (504, True)
            assert house.unreachable == ["one"]
            (record,) = await house.settled()
            assert (record.outcome, record.status) == ("failed", 504)


@pytest.mark.parametrize("path", INFERENCE)
class TestFirstByte:
    async def test_by_default_a_node_that_is_online_has_as_long_as_it_takes(self, tmp_path: Path, path: str) -> None:
        """A model that is loaded from a slow disk and a prompt of a whole book take minutes."""
        async with timed(tmp_path) as (house, clock):
            script = Held(whole())
            await house.node("one", script)
            client = await post(house, BODY, path)
            await script.asked.wait()
            clock.passes(100_000)
            script.go.set()
            assert (await client.answer())[::2] == (200, WHOLE)
            assert house.failures == []
            await house.settled()

    async def test_where_there_is_a_limit_it_is_504(self, tmp_path: Path, path: str) -> None:
        """B3: and the connection goes on, since it is not the client's fault."""
        async with timed(tmp_path, answer_timeout=60) as (house, clock):
            script = Held(whole())
            await house.node("one", script)
            client = await post(house, BODY, path)
            await script.asked.wait()
            clock.passes(59)
            assert house.failures == []
            clock.passes(2)
            status, _, body = await client.answer()
            assert (status, names("answer_timeout", said(path, body))) == (504, True)
            (record,) = await house.settled()
            assert (record.outcome, record.status) == ("failed", 504)
            script.go.set()
            await client.post(path, BODY)
            assert (await client.answer())[0] == 200


class TestBetweenTokens:
    @pytest.mark.parametrize("path", INFERENCE)
    async def test_a_stream_that_falls_silent_is_told_in_its_protocol(self, tmp_path: Path, path: str) -> None:
        """B5: the message is left unfinished, the node hears of it, and its connection is closed."""
        record, error = RECORDS[path]
        async with timed(tmp_path, token_timeout=120) as (house, clock):
            fed = Fed()
            await house.node("one", fed)
            fed.say(SSE_HEAD + chunk(record))
            client = await post(house, STREAM, path)
            await client.head()
            assert await client.chunk() == record
            clock.passes(119)
            assert house.failures == []
            clock.passes(2)
            rest = await client.rest()
            assert rest.split(b"\r\n", 1)[1].startswith(error)
            assert names("token_timeout", rest.decode())
            assert not rest.endswith(LAST)
            assert [node for node, _ in house.failures] == ["one"]
            assert [r.outcome for r in await house.settled()] == ["broken"]
            assert fed.conversation is not None
            await asyncio.wait_for(fed.conversation.closed(), 5)

    @pytest.mark.parametrize("path", INFERENCE)
    async def test_half_of_a_whole_answer_is_504(self, tmp_path: Path, path: str) -> None:
        """B3: nothing of it was passed on, so it can still be said properly."""
        async with timed(tmp_path, token_timeout=120) as (house, clock):
            fed = Fed()
            await house.node("one", fed)
            client = await post(house, BODY, path)
            await until(lambda: fed.conversation is not None)
            fed.say(whole()[:-1])
            await heard(house)
            await heard(house)  # the first may have been read before the node had begun to send
            clock.passes(121)
            status, _, body = await client.answer()
            assert (status, names("token_timeout", said(path, body))) == (504, True)
            assert [r.outcome for r in await house.settled()] == ["failed"]

    async def test_half_of_a_whole_answer_goes_to_another_node(self, tmp_path: Path) -> None:
        """B5: which then has all the time that there is."""
        async with timed(tmp_path, token_timeout=120) as (house, clock):
            fed, script = Fed(), Held(whole())
            await house.node("one", fed)
            client = await post(house)
            await until(lambda: fed.conversation is not None)
            await house.node("two", script)
            fed.say(whole()[:-1])
            await heard(house)
            await heard(house)  # the first may have been read before the node had begun to send
            clock.passes(121)
            await script.asked.wait()
            clock.passes(100_000)
            script.go.set()
            status, headers, body = await client.answer()
            assert (status, headers["x-llm-router-node"], body) == (200, "two", WHOLE)
            assert [node for node, _ in house.failures] == ["one"]
            await house.settled()

    async def test_a_stream_may_last_as_long_as_it_goes_on(self, tmp_path: Path) -> None:
        """B2: there is no limit on the whole."""
        async with timed(tmp_path, token_timeout=120) as (house, clock):
            fed = Fed()
            await house.node("one", fed)
            fed.say(SSE_HEAD)
            client = await post(house, STREAM)
            for number in range(50):
                record = b"data: %d\n\n" % number
                fed.say(chunk(record))
                if not number:
                    await client.head()
                assert await client.chunk() == record
                clock.passes(119)
            fed.say(LAST)
            assert await client.chunks() == []
            assert house.failures == []
            assert [r.outcome for r in await house.settled()] == ["done"]

    async def test_without_a_limit_any_silence_is_borne(self, tmp_path: Path) -> None:
        """B2: 0 is none."""
        async with timed(tmp_path, token_timeout=0) as (house, clock):
            fed = Fed()
            await house.node("one", fed)
            fed.say(SSE_HEAD + chunk(b"data: 1\n\n"))
            client = await post(house, STREAM)
            await client.head()
            await client.chunk()
            clock.passes(100_000)
            fed.say(LAST)
            assert await client.chunks() == []
            assert [r.outcome for r in await house.settled()] == ["done"]

    async def test_a_client_that_does_not_read_is_no_silence_of_the_node(self, tmp_path: Path) -> None:
        """Backpressure holds the node back; it is not to be blamed for that."""
        async with timed(tmp_path, token_timeout=120) as (house, clock):
            fed, record = Fed(), b"data: " + b"x" * 20_000_000 + b"\n\n"
            await house.node("one", fed)
            client = await post(house, STREAM)
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001 - a client that does not read
            fed.say(SSE_HEAD + chunk(record) + LAST)
            await stuck(house, fed)
            clock.passes(121)
            client.reader._transport.resume_reading()  # type: ignore[attr-defined]  # noqa: SLF001 - it reads again
            await client.head()
            assert await client.chunks() == [record]
            assert house.failures == []
            assert [r.outcome for r in await house.settled()] == ["done"]

    async def test_nor_is_it_when_the_node_has_gone_offline(self, tmp_path: Path) -> None:
        """What it has sent is there; the silence that counts is the one that follows when the client reads again."""
        async with timed(tmp_path, token_timeout=0) as (house, clock):
            fed, record = Fed(), b"data: " + b"x" * 20_000_000 + b"\n\n"
            await house.node("one", fed)
            client = await post(house, STREAM)
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001 - a client that does not read
            fed.say(SSE_HEAD + chunk(record))
            await stuck(house, fed)
            house.registry.signal("one", Signal.SILENT, house.plane.now())
            clock.passes(1000)
            client.reader._transport.resume_reading()  # type: ignore[attr-defined]  # noqa: SLF001 - it reads again
            await client.head()
            assert await client.chunk() == record
            assert house.failures == []
            clock.passes(11)
            assert b"went offline" in await client.rest()
            assert [r.outcome for r in await house.settled()] == ["broken"]


async def stuck(house: House, fed: Fed) -> None:
    """Until nothing of what the node has written has moved in twenty turns of client, gateway and control app."""
    await until(lambda: fed.conversation is not None)
    assert fed.conversation is not None
    sizes = [-1]
    while sizes[-1] <= 0 or sizes[-20:].count(sizes[-1]) < 20:
        await heard(house)
        sizes.append(fed.conversation.writer.transport.get_write_buffer_size())


class TestRequestIds:
    @pytest.mark.parametrize("given", ["a", "0123-abc", "!~{}", "x" * 128])
    async def test_a_good_one_is_taken_over(self, house: House, given: str) -> None:
        """In the answer and on the way to the node; in an error of ours too."""
        script = Held(whole())
        script.go.set()
        await house.node("one", script)
        client = await post(house, headers=f"X-Request-Id: {given}\r\n")
        assert (await client.answer())[1]["x-request-id"] == given
        assert f"\r\nx-request-id: {given}\r\n".encode() in script.requests[0]
        await client.post("/v1/chat/completions", b"{", headers=f"X-Request-Id: {given}\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers["x-request-id"]) == (400, given)

    @pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "\u00e9"])
    async def test_of_any_other_one_is_made(self, house: House, given: str) -> None:
        """Each request has its own: it is what a client and the router's history have in common."""
        script = Held(whole())
        script.go.set()
        await house.node("one", script)
        client = await house.client()
        made = []
        for _ in range(2):
            await client.post("/v1/chat/completions", BODY, headers=f"X-Request-Id: {given}\r\n")
            made.append((await client.answer())[1]["x-request-id"])
        assert made[0] != made[1]
        assert all(len(name) < 40 and name.isascii() and name.isprintable() and " " not in name for name in made)
        assert f"\r\nx-request-id: {made[0]}\r\n".encode() in script.requests[0]
        assert script.requests[0].lower().count(b"x-request-id") == 1


class TestTraces:
    LINES = (
        "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
        "tracestate: congo=t61rcWkgMzE,rojo=00f067aa0ba902b7\r\n"
        "tracestate: vendor=1\r\n"
        "Baggage: userId=alice,serverNode=DF%2028;isProd=false\r\n"
    )
    PASSED = tuple(LINES.replace("Trace", "trace").replace("Baggage", "baggage").encode().splitlines())

    @pytest.mark.parametrize(
        ("path", "dialects"), [*((path, EVERY_DIALECT) for path in INFERENCE), ("/api/chat", frozenset({"openai"}))]
    )
    async def test_they_reach_the_node_as_they_are(self, house: House, path: str, dialects: frozenset[str]) -> None:
        """W3C Trace Context and Baggage: values unchanged, and in order; translated or not."""
        script = Held(whole(b'{"choices":[{"message":{"content":"hi"}}]}'))
        script.go.set()
        await house.node("one", script, dialects=dialects)
        client = await post(house, ASK, path, headers=self.LINES)
        assert (await client.answer())[0] == 200
        lines = script.requests[0].split(b"\r\n")
        assert tuple(line for line in lines if line in self.PASSED) == self.PASSED

    async def test_they_reach_the_control_app_as_they_are(self, house: House) -> None:
        """The router's own part of a trace begins where the caller's ended."""
        client = await post(house, BODY, "/v0/nodes", headers=self.LINES)
        _, _, seen = await client.answer()
        assert tuple(line for line in seen.split(b"\r\n") if line in self.PASSED) == self.PASSED
