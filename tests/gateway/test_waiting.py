"""Requests that wait, in the queue or for a node's first byte: in what order, how it ends, what the client sees."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anthropic
import msgspec
import ollama
import openai
import pytest
from tests.gateway.conftest import (
    BODY,
    SSE_HEAD,
    STREAM,
    WHOLE,
    Client,
    Held,
    House,
    answers,
    breaks_after,
    chunk,
    opened,
    post,
    until,
    whole,
)

PATHS = ["/v1/chat/completions", "/v1/messages", "/api/chat", "/api/generate"]
SHAPES = {
    "/api/chat": b'{"error":"',
    "/v1/chat/completions": b'{"error":{"message":"',
    "/v1/messages": b'{"type":"error","error":{"type":"',
}
ERRORS = {  # how an error record begins
    "/v1/chat/completions": b'data: {"error":',
    "/v1/messages": b"event: error\ndata: ",
    "/api/chat": b'{"error":"',
}
ASK = b'{"model":"m","stream":true,"prompt":"x","messages":[{"role":"user","content":"x"}]}'
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
LAST = b"0\r\n\r\n"
MESSAGE = (  # a stream of /v1/messages, as short as its client takes it
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"x","type":"message","role":"assistant",'
    b'"model":"m","content":[],"stop_reason":null,"stop_sequence":null,'
    b'"usage":{"input_tokens":1,"output_tokens":0}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"hi"}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
STREAMED = (SSE_HEAD, chunk(DELTA), chunk(DONE) + LAST)
CLOSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
NDJSON_HEAD = SSE_HEAD.replace(b"text/event-stream", b"application/x-ndjson")


def is_sign(path: str, record: bytes) -> bool:
    """Whether a record says nothing but that there is life."""
    if path.startswith("/v1"):
        return record == b": waiting\n\n"
    read = msgspec.json.decode(record) if record.startswith(b"{") and record.count(b"\n") == 1 else {}
    said = read.get("message", {}).get("content") if path == "/api/chat" else read.get("response")
    return (said, read.get("done"), read.get("model")) == ("", False, "m")


async def first_sign(client: Client, path: str = "/v1/chat/completions") -> dict[str, str]:
    """The head of a stream that begins with a sign of life."""
    status, headers = await client.head()
    assert status == 200
    assert headers["content-type"] == ("text/event-stream" if path.startswith("/v1") else "application/x-ndjson")
    assert is_sign(path, await client.chunk())
    return headers


async def after_signs(client: Client, path: str = "/v1/chat/completions") -> bytes:
    """What comes after the signs, to the stream's proper end; after it, there are none."""
    chunks = await client.chunks()
    while chunks and is_sign(path, chunks[0]):
        chunks.pop(0)
    assert not any(is_sign(path, data) for data in chunks)
    return b"".join(chunks)


async def at_a_head(house: House, script: Held, body: bytes = STREAM, path: str = "/v1/chat/completions") -> Client:
    """A client whose node has sent a head, before any sign."""
    every, house.plane.sign_every = house.plane.sign_every, 0
    client = await post(house, body, path)
    await script.asked.wait()
    other = await house.client()
    await other.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await other.answer()  # what the node sent before this is read by now
    house.plane.sign_every = every
    return client


async def measurable() -> None:
    """Long enough for a wait to be more than 0 in milliseconds."""
    await asyncio.sleep(0.005)  # noqa: TID251 - the pause is what is measured


class TestQueue:
    async def test_a_request_waits_for_a_slot_and_says_how_long(self, house: House) -> None:
        """D5: x-queue-wait-ms in the response and the time in the record, of those that waited and of no other."""
        script = Held(whole())
        await house.node("one", script, slots=1)
        first = await post(house)
        await script.asked.wait()
        second = await post(house)
        await house.waiting(1)
        await measurable()
        script.go.set()
        assert "x-queue-wait-ms" not in (await first.answer())[1]
        status, headers, body = await second.answer()
        assert (status, body, headers["x-llm-router-node"]) == (200, WHOLE, "one")
        assert int(headers["x-queue-wait-ms"]) > 0
        before, after = await house.settled(2)
        assert before.waited == 0
        assert 0 < after.waited <= after.seconds

    async def test_who_came_first_is_served_first(self, house: House) -> None:
        """D5: in the order of arrival, one after another as the slot comes free."""
        script = Held(whole())
        await house.node("one", script, slots=1)
        clients = []
        for i in range(4):
            clients.append(await post(house, headers=f"X-Request-Id: {i}\r\n"))
            await script.asked.wait()
            await house.waiting(i)
        script.go.set()
        for client in clients:
            assert (await client.answer())[0] == 200
        ids = [request.split(b"x-request-id: ")[1].split(b"\r\n")[0] for request in script.requests]
        assert ids == [b"0", b"1", b"2", b"3"]
        await house.settled(4)

    async def test_whichever_node_frees_first_takes_it(self, house: House) -> None:
        """D5: a request waits for the model, not for a node."""
        await house.node("one", answers(whole()), slots=1)
        await house.node("two", answers(whole()), slots=1)
        held = [house.occupy(), house.occupy()]
        client = await post(house)
        await house.waiting(1)
        house.vacate(held[1])
        assert (await client.answer())[1]["x-llm-router-node"] == held[1].node.id
        house.vacate(held[0])
        await house.settled()

    async def test_a_full_queue_refuses_with_the_time_to_come_back(self, tmp_path: Path) -> None:
        """B3: 429 with Retry-After, in the shape of each API; whoever waits is not disturbed."""
        async with opened(tmp_path, queue_size=1) as house:
            await house.node("one", answers(whole()), slots=1)
            lease = house.occupy()
            waiting = await post(house)
            await house.waiting(1)
            for path, shape in SHAPES.items():
                status, headers, body = await (await post(house, BODY, path)).answer()
                assert (status, body[: len(shape)]) == (429, shape)
                assert int(headers["retry-after"]) >= 1
            house.vacate(lease)
            assert (await waiting.answer())[0] == 200
            records = await house.settled(4)
            assert [(r.outcome, r.status) for r in records] == [("failed", 429)] * 3 + [("done", 200)]

    @pytest.mark.parametrize("path", SHAPES)
    async def test_who_has_waited_too_long_is_told(self, tmp_path: Path, path: str) -> None:
        """B3: 504, in the shape of each API, and the connection goes on."""
        async with opened(tmp_path, queue_timeout=0.05) as house:
            upstream = await house.node("one", answers(whole()), slots=1)
            lease = house.occupy()
            client = await post(house, BODY, path)
            status, headers, body = await client.answer()
            assert (status, body[: len(SHAPES[path])]) == (504, SHAPES[path])
            assert int(headers["retry-after"]) >= 1
            assert int(headers["x-queue-wait-ms"]) > 0
            house.vacate(lease)
            (record,) = await house.settled()
            assert (record.outcome, record.node, record.attempts) == ("failed", "", 0)
            assert record.waited > 0
            assert upstream.connections == 0
            await client.post(path, BODY)
            assert (await client.answer())[0] == 200

    async def test_a_client_that_leaves_the_queue_never_reaches_a_node(self, house: House) -> None:
        """B6: its place is gone at once, and those behind it move up."""
        script = Held(whole())
        script.go.set()
        await house.node("one", script, slots=1)
        lease = house.occupy()
        gone = await post(house, headers="X-Request-Id: gone\r\n")
        await house.waiting(1)
        stays = await post(house, headers="X-Request-Id: stays\r\n")
        await house.waiting(2)
        gone.abort()
        assert (await house.record()).outcome == "cancelled"
        assert house.plane.scheduler.waiting == 1
        house.vacate(lease)
        assert (await stays.answer())[0] == 200
        assert len(script.requests) == 1
        await house.settled()

    async def test_a_client_that_leaves_when_its_place_is_decided_gives_it_back(self, house: House) -> None:
        """B6, B7: between the decision and the moment at which the request hears of it."""
        upstream = await house.node("one", answers(whole()), slots=1)
        lease = house.occupy()
        await post(house)
        await house.waiting(1)
        (connection,) = house.gateway.clients
        connection.abort()  # heard of in the loop's next turn, before the decision that is made now
        house.vacate(lease)
        assert house.registry.nodes["one"].in_flight == 1
        (record,) = await house.settled()
        assert (record.outcome, record.node) == ("cancelled", "")
        assert upstream.connections == 0

    async def test_a_node_that_comes_serves_those_who_wait(self, house: House) -> None:
        """D5: whoever waits is looked after, also when what changes is not a lease."""
        await house.node("busy", answers(whole()), slots=1)
        lease = house.occupy()
        client = await post(house)
        await house.waiting(1)
        await house.node("new", answers(whole()))
        assert (await client.answer())[1]["x-llm-router-node"] == "new"
        house.vacate(lease)
        await house.settled()


class TestDraining:
    async def test_who_waits_at_the_end_is_served_still(self, house: House) -> None:
        """A drain waits for requests in the queue as for those at a node."""
        script = Held(whole())
        await house.node("one", script, slots=1)
        busy = await post(house)
        await script.asked.wait()
        queued = await post(house)
        await house.waiting(1)
        drained = asyncio.create_task(house.gateway.drain(5))
        await until(lambda: house.plane.draining)
        script.go.set()
        assert (await busy.answer())[0] == 200
        status, headers, _ = await queued.answer()
        assert (status, headers["connection"]) == (200, "close")
        await drained
        assert [r.outcome for r in await house.settled(2)] == ["done", "done"]

    async def test_who_waits_longer_than_that_is_cut(self, house: House) -> None:
        """It is told so, and nothing is left behind in the queue."""
        await house.node("one", answers(whole()), slots=1)
        lease = house.occupy()
        client = await post(house)
        await house.waiting(1)
        await house.gateway.drain(0.01)
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (503, "close")
        assert b"drain-timeout" in body
        house.vacate(lease)
        assert [r.outcome for r in await house.settled()] == ["failed"]


class TestSigns:
    """Streams that wait: a comment where there are server-sent events, else a record with empty content."""

    @pytest.mark.parametrize("path", PATHS)
    async def test_a_stream_in_the_queue_gets_signs_and_then_its_answer(self, signing: House, path: str) -> None:
        """B2, D5: in its protocol, again and again, and the answer follows in the same stream."""
        await signing.node("one", answers(*STREAMED), slots=1)
        lease = signing.occupy()
        client = await post(signing, ASK, path)
        headers = await first_sign(client, path)
        assert headers["transfer-encoding"] == "chunked"
        assert "x-llm-router-node" not in headers  # nobody knows yet
        assert is_sign(path, await client.chunk())
        signing.vacate(lease)
        assert await after_signs(client, path) == DELTA + DONE
        (record,) = await signing.settled()
        assert (record.outcome, record.status, record.node) == ("done", 200, "one")
        assert record.waited > 0
        await client.post(path, ASK)
        assert (await client.head())[0] == 200

    @pytest.mark.parametrize("path", PATHS)
    async def test_a_stream_at_a_node_that_says_nothing_yet_gets_signs(self, signing: House, path: str) -> None:
        """B2: a model that is being loaded, or a long prompt."""
        script = Held(*STREAMED)
        await signing.node("one", script)
        client = await post(signing, ASK, path)
        assert (await first_sign(client, path))["x-llm-router-node"] == "one"
        assert is_sign(path, await client.chunk())
        script.go.set()
        assert await after_signs(client, path) == DELTA + DONE
        await signing.settled()

    @pytest.mark.parametrize(
        "pieces",
        [
            STREAMED,
            (b"".join(STREAMED),),
            tuple(b"%c" % byte for byte in b"".join(STREAMED)),
            (whole(DELTA + DONE),),
            (CLOSE_HEAD, DELTA, DONE),
        ],
        ids=["chunked", "in one piece", "byte by byte", "of a known length", "until it closes"],
    )
    async def test_whatever_the_framing_the_answer_is_whole(self, signing: House, pieces: tuple[bytes, ...]) -> None:
        """B1, B2: what was begun with signs goes on in chunks of ours."""
        script = Held(*pieces, closes=pieces[0] is CLOSE_HEAD)
        await signing.node("one", script)
        client = await post(signing, STREAM)
        await first_sign(client)
        script.go.set()
        assert await after_signs(client) == DELTA + DONE
        (record,) = await signing.settled()
        assert record.outcome == "done"

    async def test_an_http10_client_gets_them_bare(self, signing: House) -> None:
        """HTTP/1.0 knows no chunks: signs and answer pass as they are, and the connection's end is the stream's."""
        script = Held(*STREAMED)
        await signing.node("one", script)
        client = await post(signing, STREAM, version="1.0")
        status, headers = await client.head()
        assert (status, headers["connection"], "transfer-encoding" in headers) == (200, "close", False)
        assert await client.reader.readexactly(11) == b": waiting\n\n"
        script.go.set()
        assert (await client.rest()).replace(b": waiting\n\n", b"") == DELTA + DONE
        await signing.settled()

    async def test_a_translated_stream_goes_on_translated(self, signing: House) -> None:
        """B1: Ollama's client in front of a runtime that speaks only OpenAI's API."""
        script = Held(*STREAMED)
        await signing.node("one", script, dialects=frozenset({"openai"}))
        client = await post(signing, ASK, "/api/chat")
        await first_sign(client, "/api/chat")
        script.go.set()
        first, last = map(msgspec.json.decode, (await after_signs(client, "/api/chat")).splitlines())
        assert (first["message"]["content"], first["done"], last["done"]) == ("hi", False, True)
        await signing.settled()

    async def test_what_needs_no_runtime_ends_the_stream_that_was_begun(self, signing: House) -> None:
        """A request to load a model waited with signs; the answer is known, and comes as a record of that stream."""
        await signing.node("one", breaks_after(), slots=1, dialects=frozenset({"openai"}))
        lease = signing.occupy()
        client = await post(signing, b'{"model":"m"}', "/api/generate")
        await first_sign(client, "/api/generate")
        signing.vacate(lease)
        (line,) = (await after_signs(client, "/api/generate")).splitlines()
        assert msgspec.json.decode(line)["done_reason"] == "load"
        assert signing.registry.nodes["one"].warm["m"] > 0  # it is expected to be loaded there, but not known to be
        await signing.settled()

    async def test_whole_answers_get_none(self, signing: House) -> None:
        """A whole answer has one body; whoever waits for it sees nothing before."""
        script = Held(whole())
        await signing.node("one", script)
        waiting = [await post(signing), await post(signing, BODY, "/v1/messages")]
        waiting += [await post(signing, b'{"model":"m","stream":false}', "/api/generate")]
        waiting += [await post(signing, b'{"model":"m","stream":true}', "/api/embed")]
        await until(lambda: len(script.requests) == 4)
        await signing.node("two", script)
        beside = await post(signing, STREAM)
        await first_sign(beside)
        await beside.chunk()
        script.go.set()
        for client in waiting:
            status, headers, body = await client.answer()
            assert (status, headers["content-type"], body) == (200, "application/json", WHOLE)
        await beside.chunks()
        await signing.settled(5)


class TestHeadOnly:
    """A node that has sent its head and nothing more."""

    @pytest.mark.parametrize(("path", "head"), [("/v1/chat/completions", SSE_HEAD), ("/api/chat", NDJSON_HEAD)])
    async def test_signs_pass_between_head_and_first_chunk(self, signing: House, path: str, head: bytes) -> None:
        """B2: as many as it takes; then the node's chunks as they come."""
        script = Held(*STREAMED[1:], first=head)
        await signing.node("one", script)
        client = await at_a_head(signing, script, ASK, path)
        await first_sign(client, path)
        for _ in range(2):
            assert is_sign(path, await client.chunk())
        script.go.set()
        assert await after_signs(client, path) == DELTA + DONE
        assert [r.outcome for r in await signing.settled()] == ["done"]

    async def test_its_failure_after_a_sign_is_told_in_the_stream(self, signing: House) -> None:
        """B5: the client has this node's head by then."""
        dies = Held(first=SSE_HEAD, closes=True)
        await signing.node("one", dies)
        client = await at_a_head(signing, dies)
        await first_sign(client)
        dies.go.set()
        rest = await client.rest()
        assert b'data: {"error":' in rest
        assert not rest.endswith(LAST)
        assert [r.outcome for r in await signing.settled()] == ["broken"]

    @pytest.mark.parametrize(
        "head",
        [
            SSE_HEAD.replace(b"200 OK", b"400 Bad Request"),
            SSE_HEAD.replace(b"text/event-stream", b"application/json"),
            CLOSE_HEAD.replace(b"200 OK", b"400 Bad Request"),
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 400000\r\n\r\n",
        ],
        ids=["chunked error", "chunked JSON", "close-delimited error", "of a known length"],
    )
    async def test_what_is_no_stream_gets_no_signs(self, signing: House, head: bytes) -> None:
        """B1: nothing of ours gets into an error, a JSON text or a body of a known length."""
        sized = b"Content-Length" in head
        text = b'{"x":"' + b"x" * 399_992 + b'"}' if sized else b'{"x":1}'
        chunked = b"chunked" in head
        script = Held(chunk(text) + LAST if chunked else text, first=head, closes=True)
        await signing.node("one", script, slots=1)
        beside = Held(*STREAMED)
        client = await at_a_head(signing, script)
        await signing.node("two", beside)
        other = await post(signing, STREAM)
        await first_sign(other)
        for _ in range(3):
            await other.chunk()
        script.go.set()
        beside.go.set()
        _, headers = await client.head()
        body = await client.reader.readexactly(len(text)) if sized else b"".join(await client.chunks())
        assert (body, headers["x-llm-router-node"]) == (text, "one")
        await after_signs(other)
        await signing.settled(2)

    async def test_a_node_that_dies_before_its_first_byte_is_replaced(self, house: House) -> None:
        """B5: a head alone is nothing that the client has seen."""
        await house.node("bad", breaks_after(SSE_HEAD))
        await house.node("good", answers(*STREAMED))
        client = await post(house, STREAM)
        assert (await client.head())[1]["x-llm-router-node"] == "good"
        assert b"".join(await client.chunks()) == DELTA + DONE
        (record,) = await house.settled()
        assert (record.attempts, house.unreachable) == (2, ["bad"])


class TestFailingAfterASign:
    """The client has the head of a stream: whatever goes wrong is said in it, and the stream ends properly."""

    async def test_another_node_takes_over(self, signing: House) -> None:
        """B5: of the node that died, the client has seen nothing but signs."""
        dies = Held(closes=True)
        await signing.node("bad", dies)
        client = await post(signing, STREAM)
        await first_sign(client)
        await signing.node("good", answers(*STREAMED))
        dies.go.set()
        assert await after_signs(client) == DELTA + DONE
        (record,) = await signing.settled()
        assert (record.outcome, record.node, record.attempts) == ("done", "good", 2)
        assert signing.unreachable == ["bad"]

    @pytest.mark.parametrize("path", ERRORS)
    async def test_when_every_node_fails_the_stream_says_so(self, signing: House, path: str) -> None:
        """B5: an error record, and the end."""
        dies = Held(closes=True)
        await signing.node("one", dies)
        client = await post(signing, ASK, path)
        await first_sign(client, path)
        dies.go.set()
        rest = await after_signs(client, path)
        assert rest.startswith(ERRORS[path])
        assert b"node 'one' failed" in rest
        (record,) = await signing.settled()
        assert (record.outcome, record.status) == ("failed", 502)
        signing.plane.sign_every = 0
        await client.post(path, ASK)
        assert (await client.answer())[0] == 502

    @pytest.mark.parametrize("path", ERRORS)
    @pytest.mark.parametrize("status", [b"400 Bad Request", b"500 Internal Server Error"])
    async def test_a_nodes_error_is_told_in_the_stream(self, signing: House, path: str, status: bytes) -> None:
        """B5: its status and its words."""
        script = Held(whole(b"own words", status))
        await signing.node("one", script)
        client = await post(signing, ASK, path)
        await first_sign(client, path)
        script.go.set()
        rest = await after_signs(client, path)
        assert rest.startswith(ERRORS[path])
        assert b"status %b: own words" % status[:3] in rest
        (record,) = await signing.settled()
        assert record.status == int(status[:3])
        assert len(signing.failures) == (status[:1] == b"5")

    async def test_a_runtimes_error_is_told_in_the_stream_untranslated(self, signing: House) -> None:
        """B5: behind a translation too."""
        script = Held(whole(b'{"error":{"message":"too long"}}', b"400 Bad Request"))
        await signing.node("one", script, dialects=frozenset({"openai"}))
        client = await post(signing, ASK, "/api/chat")
        await first_sign(client, "/api/chat")
        script.go.set()
        (line,) = (await after_signs(client, "/api/chat")).splitlines()
        assert "too long" in msgspec.json.decode(line)["error"]
        await signing.settled()

    @pytest.mark.parametrize("path", ERRORS)
    async def test_waiting_too_long_is_told_in_the_stream(self, signing: House, path: str) -> None:
        """B3, B5: its time is up after a sign."""
        await signing.node("one", answers(*STREAMED), slots=1)
        lease = signing.occupy()
        client = await post(signing, ASK, path)
        await first_sign(client, path)
        plane = signing.plane
        plane.deliver(plane.scheduler.on_tick(plane.now() + signing.gateway.config.queue_timeout))
        rest = await after_signs(client, path)
        assert rest.startswith(ERRORS[path])
        assert b"came free within" in rest
        signing.vacate(lease)
        (record,) = await signing.settled()
        assert (record.outcome, record.status) == ("failed", 504)

    async def test_signs_go_on_while_it_waits_for_another_node(self, signing: House) -> None:
        """B5, D5: its node is broken, the others are busy."""
        signing.plane.sign_every = 0
        script = Held(whole(b"{}", b"503 Service Unavailable"))
        await signing.node("bad", script, slots=1)
        client = await post(signing, STREAM)
        await script.asked.wait()
        await signing.node("good", answers(*STREAMED), slots=1)
        lease = signing.occupy()
        script.go.set()
        await signing.waiting(1)
        signing.plane.sign_every = 0.02
        await first_sign(client)
        signing.vacate(lease)
        assert await after_signs(client) == DELTA + DONE
        (record,) = await signing.settled()
        assert (record.node, record.attempts) == ("good", 2)


class TestRealClients:
    """What the official clients make of it: the answer, and no trace of the signs."""

    async def test_openai(self, signing: House) -> None:
        """B2, for /v1/chat/completions."""
        script = Held(*STREAMED)
        await signing.node("one", script)
        async with openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{signing.port}/v1", api_key="none", max_retries=0
        ) as client:
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}], stream=True
            )
            script.go.set()
            said = [choice.delta.content async for part in stream for choice in part.choices]
        assert said == ["hi", None]

    async def test_anthropic(self, signing: House) -> None:
        """B2, for /v1/messages."""
        script = Held(SSE_HEAD, chunk(MESSAGE) + LAST)
        await signing.node("one", script)
        async with anthropic.AsyncAnthropic(
            base_url=f"http://127.0.0.1:{signing.port}", api_key="none", max_retries=0
        ) as client:
            stream = await client.messages.create(
                model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}], stream=True
            )
            script.go.set()
            kinds = [event.type async for event in stream]
        assert kinds == ["message_start", "content_block_delta", "message_stop"]

    async def test_ollama(self, signing: House) -> None:
        """B2, for /api/chat and /api/generate; the empty records add nothing to the text."""
        script = Held(*STREAMED)
        await signing.node("one", script, dialects=frozenset({"openai"}))
        async with ollama_client(signing) as client:
            chat = await client.chat(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
            first = await anext(chat)
            script.go.set()
            parts = [first] + [part async for part in chat]
            assert (first.done, parts[-1].done) == (False, True)
            assert [part.message.content for part in parts if part.message.content] == ["hi"]
            script.go.clear()
            generated = await client.generate(model="m", prompt="x", stream=True)
            texts = [(await anext(generated)).response or ""]
            script.go.set()
            texts += [part.response or "" async for part in generated]
        assert (texts[0], "".join(texts)) == ("", "hi")

    async def test_a_failure_after_a_sign_is_an_error_of_theirs(self, signing: House) -> None:
        """B5: nobody takes the end of the stream for a whole answer."""
        script = Held(closes=True)
        await signing.node("one", script)
        async with ollama_client(signing) as client:
            chat = await client.chat(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
            await anext(chat)
            script.go.set()
            with pytest.raises(ollama.ResponseError, match="node 'one' failed"):
                [part async for part in chat]


@asynccontextmanager
async def ollama_client(house: House) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(host=f"http://127.0.0.1:{house.port}")
    try:
        yield client
    finally:
        await client.close()  # type: ignore[no-untyped-call]  # the library says no types here
