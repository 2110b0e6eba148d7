"""The life of a request, on real sockets: upstreams follow a script, the client sees every byte."""

import asyncio

import pytest
from tests.gateway.conftest import (
    BODY,
    SSE_HEAD,
    STREAM,
    WHOLE,
    Conversation,
    House,
    answers,
    breaks_after,
    chunk,
    post,
    whole,
)


class TestPassing:
    async def test_a_whole_answer_passes_with_its_bytes_and_says_who_gave_it(self, house: House) -> None:
        """B1: the body untouched both ways; x-request-id and x-llm-router-node beside it; keep-alive afterwards."""
        seen: list[bytes] = []

        async def script(conversation: Conversation) -> None:
            while True:
                seen.append(await conversation.request())
                await conversation.send(whole())

        await house.node("one", script)
        client = await post(house, b'{"model":"m",  "odd": [1,2 ]}', headers="X-Request-Id: mine\r\nX-Own: 1\r\n")
        status, headers, body = await client.answer()
        assert (status, body) == (200, WHOLE)
        assert (headers["x-request-id"], headers["x-llm-router-node"]) == ("mine", "one")
        assert seen[0].endswith(b'\r\n\r\n{"model":"m",  "odd": [1,2 ]}')
        assert b"x-own: 1" in seen[0]
        await client.post("/v1/chat/completions", BODY)
        assert (await client.answer())[0] == 200

    async def test_a_stream_passes_as_it_comes(self, house: House) -> None:
        """B2: a token is passed on before the next one exists."""
        more = asyncio.Event()

        async def script(conversation: Conversation) -> None:
            await conversation.request()
            await conversation.send(SSE_HEAD + chunk(b"data: 1\n\n"))
            await more.wait()
            await conversation.send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

        await house.node("one", script)
        client = await post(house, STREAM)
        assert (await client.head())[0] == 200
        assert await client.reader.readexactly(14) == chunk(b"data: 1\n\n")
        assert house.registry.nodes["one"].in_flight == 1  # B7: until the last byte
        more.set()
        assert await client.chunks() == [b"data: [DONE]\n\n"]
        assert (await house.record()).outcome == "done"
        assert house.registry.nodes["one"].in_flight == 0

    async def test_pipelined_requests_are_answered_in_order(self, house: House) -> None:
        """A client may send the next request before it has the answer to the first (RFC 9112 §9.3.2)."""
        await house.node("one", answers(whole()))
        client = await house.client()
        request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-Request-Id: %d\r\nContent-Length: %d\r\n\r\n%b"
        await client.send(b"".join(request % (i, len(BODY), BODY) for i in range(40)))
        ids = [(await client.answer())[1]["x-request-id"] for _ in range(40)]
        assert ids == [str(i) for i in range(40)]

    async def test_answers_of_every_kind_keep_their_order(self, house: House) -> None:
        """Whole answers and errors of ours are written in batches, tokens at once: none overtakes another."""
        await house.node("whole", answers(whole()))
        await house.node("stream", answers(SSE_HEAD, chunk(b"data: 1\n\n"), b"0\r\n\r\n"), models=["s"])
        client = await house.client()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
        stream = STREAM.replace(b'"m"', b'"s"')
        bodies = [BODY, stream, b"{", BODY, b"{", stream, BODY]
        await client.send(b"".join(head % (len(body), body) for body in bodies))
        for body in bodies:
            status, headers = await client.head()
            if body == stream:
                assert (status, await client.chunks()) == (200, [b"data: 1\n\n"])
            else:
                assert status == (200 if body == BODY else 400)
                await client.reader.readexactly(int(headers["content-length"]))

    async def test_expect_100_continue_is_answered(self, house: House) -> None:
        """A client such as curl waits for it before it sends a large body."""
        await house.node("one", answers(whole()))
        client = await house.client()
        await client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
            % len(BODY)
        )
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(BODY)
        assert (await client.answer())[0] == 200

    async def test_a_close_delimited_answer_gets_a_framing(self, house: House) -> None:
        """So that the client can tell a whole answer from one that was cut off, and keep its connection."""
        await house.node("one", breaks_after(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"ab", b"cd"))
        client = await post(house)
        assert (await client.head())[1]["transfer-encoding"] == "chunked"
        assert b"".join(await client.chunks()) == b"abcd"

    async def test_a_close_delimited_answer_that_is_reset_is_not_complete(self, house: House) -> None:
        """Only a proper end of the connection ends such a body (RFC 9112 §8)."""
        received = asyncio.Event()

        async def script(conversation: Conversation) -> None:
            await conversation.request()
            await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            await received.wait()
            conversation.reset()

        await house.node("one", script)
        client = await post(house, STREAM)
        await client.head()
        assert await client.reader.readexactly(14) == chunk(b"data: 1\n\n")
        received.set()
        rest = await client.rest()
        assert b'data: {"error":' in rest
        assert not rest.endswith(b"0\r\n\r\n")

    async def test_an_http10_client_gets_no_chunks(self, house: House) -> None:
        """HTTP/1.0 knows no chunked coding; the connection's end is the body's."""
        await house.node("one", answers(SSE_HEAD + chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n") + b"0\r\n\r\n"))
        client = await post(house, STREAM, version="1.0")
        status, headers = await client.head()
        assert (status, headers["connection"]) == (200, "close")
        assert await client.rest() == b"data: 1\n\ndata: 2\n\n"

    async def test_a_large_body_passes_both_ways(self, house: House) -> None:
        """Ten megabytes up and ten down, byte for byte, with no more than a connection's buffers in between."""
        big = b"x" * 10_000_000
        seen: list[int] = []

        async def script(conversation: Conversation) -> None:
            seen.append(len(await conversation.request()))
            await conversation.send(whole(big))

        await house.node("one", script)
        client = await post(house, b'{"model":"m","pad":"' + big + b'"}')
        _, _, body = await client.answer()
        assert body == big
        assert seen[0] > len(big)

    async def test_a_slow_client_pauses_its_upstream(self, house: House) -> None:
        """Backpressure: what the client does not read stays with the upstream, not in our memory."""
        stuck = asyncio.Event()

        async def script(conversation: Conversation) -> None:
            await conversation.request()
            await conversation.send(SSE_HEAD)
            conversation.writer.transport.set_write_buffer_limits(high=0)
            for _ in range(400):
                try:
                    await asyncio.wait_for(conversation.send(chunk(b"x" * 100_000)), 1)
                except TimeoutError:
                    stuck.set()
                    return

        await house.node("one", script)
        await post(house, STREAM)
        await asyncio.wait_for(stuck.wait(), 20)

    async def test_every_other_path_is_the_control_apps(self, house: House) -> None:
        """The client's address is told in a header that nobody outside can set."""
        client = await house.client()
        await client.send(b"GET /health?x=1 HTTP/1.1\r\nHost: me:1\r\nX-LLM-Router-Client: 9.9.9.9\r\n\r\n")
        status, headers, seen = await client.answer()
        assert status == 200
        assert headers["x-request-id"]
        assert seen.startswith(b"GET /health?x=1 HTTP/1.1\r\nhost: me:1\r\n")
        assert b"9.9.9.9" not in seen
        assert b"x-llm-router-client: 127.0.0.1" in seen


class TestRefusing:
    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b'{"model": "m",}', "byte"),
            (b'{"model": "m"', "truncated"),
            (b'{"model": 7}', "$.model"),
            (b'{"model": "\xff"}', "utf-8"),
            (b'{"stream": true}', "'model' is missing"),
            (b"", "truncated"),
        ],
    )
    async def test_a_bad_body_is_400_and_says_where(self, house: House, body: bytes, says: str) -> None:
        """The connection lives on: the request was read whole."""
        await house.node("one", answers(whole()))
        client = await post(house, body)
        status, _, answer = await client.answer()
        assert status == 400
        assert says in answer.decode()
        await client.post("/v1/chat/completions", BODY)
        assert (await client.answer())[0] == 200

    async def test_each_api_has_its_own_error_shape(self, house: House) -> None:
        """B3: an unknown model is 404 in the shape of the API that was called."""
        await house.node("one", answers(whole()))
        shapes = {
            "/api/chat": b'{"error":"',
            "/v1/chat/completions": b'{"error":{"message":"',
            "/v1/messages": b'{"type":"error","error":{"type":"not_found_error"',
        }
        for path, shape in shapes.items():
            client = await post(house, b'{"model":"other","messages":[]}', path)
            status, _, body = await client.answer()
            assert (status, body[: len(shape)]) == (404, shape)

    async def test_no_nodes_is_503(self, house: House) -> None:
        """B3, first row; and the request is recorded as refused by nobody's fault but ours."""
        client = await post(house)
        status, _, body = await client.answer()
        assert status == 503
        assert b"no available nodes" in body
        assert (await house.record()).outcome == "failed"

    async def test_too_large_a_body_is_413_at_once(self, house: House) -> None:
        """The announcement is enough; the connection is closed, since the body is still on its way."""
        client = await house.client()
        await client.send(b"POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 100000001\r\n\r\n")
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert body.startswith(b'{"error":"')
        assert await client.rest() == b""

    async def test_garbage_is_400_and_the_end(self, house: House) -> None:
        """What is not HTTP gets one answer."""
        client = await house.client()
        await client.send(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""


class TestFailing:
    async def test_a_node_that_fails_before_the_first_byte_is_replaced(self, house: House) -> None:
        """B5: the client notices nothing, the node's failure is told to the router."""
        await house.node("bad", breaks_after())
        await house.node("good", answers(whole()))
        client = await post(house)
        status, headers, _ = await client.answer()
        assert (status, headers["x-llm-router-node"]) == (200, "good")
        record = await house.record()
        assert (record.attempts, record.node, record.prompt_tokens, record.completion_tokens) == (2, "good", 3, 4)
        assert [node for node, _ in house.failures] == ["bad"]

    async def test_a_node_that_cannot_be_reached_is_replaced(self, house: House) -> None:
        """A refused connection is a failure like any other."""
        dead = await house.node("dead", breaks_after())
        await dead.stop()
        await house.node("good", answers(whole()))
        client = await post(house)
        assert (await client.answer())[1]["x-llm-router-node"] == "good"

    async def test_a_whole_answer_that_breaks_in_the_middle_is_replaced(self, house: House) -> None:
        """Nothing of a small whole answer is sent before it is complete, so nobody sees half of one."""
        await house.node("bad", breaks_after(whole()[:-10]))
        await house.node("good", answers(whole()))
        client = await post(house)
        status, headers, body = await client.answer()
        assert (status, headers["x-llm-router-node"], body) == (200, "good", WHOLE)

    @pytest.mark.parametrize(
        "status", [b"500 Internal Server Error", b"503 Service Unavailable", b"429 Too Many Requests"]
    )
    async def test_a_broken_or_busy_node_is_replaced(self, house: House, status: bytes) -> None:
        """Where another can answer, it does."""
        await house.node("bad", answers(whole(b"{}", status)))
        await house.node("good", answers(whole()))
        client = await post(house)
        assert (await client.answer())[1]["x-llm-router-node"] == "good"

    async def test_the_last_nodes_own_error_passes(self, house: House) -> None:
        """When nobody else can answer, the client reads what the node said."""
        await house.node("bad", answers(whole(b'{"error":"own words"}', b"500 Internal Server Error")))
        client = await post(house)
        status, _, body = await client.answer()
        assert (status, body) == (500, b'{"error":"own words"}')

    async def test_when_every_node_fails_the_client_hears_why(self, house: House) -> None:
        """502, naming the node and its failure."""
        await house.node("one", breaks_after())
        client = await post(house)
        status, _, body = await client.answer()
        assert status == 502
        assert b"node 'one' failed" in body

    async def test_a_kept_connection_that_died_is_no_failure(self, house: House) -> None:
        """llama.cpp's server closes after every streamed answer though it announces keep-alive."""

        async def one_answer(conversation: Conversation) -> None:
            await conversation.request()
            await conversation.send(whole())
            await conversation.request()  # and hangs up on the next one, which it has read

        upstream = await house.node("one", one_answer)
        client = await post(house)
        await client.answer()
        await client.post("/v1/chat/completions", BODY)
        assert (await client.answer())[0] == 200
        assert upstream.connections == 2
        assert house.failures == []

    @pytest.mark.parametrize(
        ("path", "record", "last"),
        [
            ("/v1/chat/completions", b"data: 1\n\n", b'data: {"error":'),
            ("/v1/messages", b"event: x\ndata: 1\n\n", b"event: error\ndata: "),
            ("/api/chat", b'{"done":false}\n', b'{"error":"'),
        ],
    )
    async def test_a_stream_that_breaks_says_so_in_its_protocol(
        self, house: House, path: str, record: bytes, last: bytes
    ) -> None:
        """B5: an error record follows the last good one, and the message is left unfinished."""
        await house.node("one", breaks_after(SSE_HEAD, chunk(record)))
        client = await post(house, STREAM, path)
        await client.head()
        rest = await client.rest()
        assert rest.startswith(chunk(record))
        assert rest[len(chunk(record)) :].split(b"\r\n", 1)[1].startswith(last)
        assert not rest.endswith(b"0\r\n\r\n")
        assert (await house.record()).outcome == "broken"

    async def test_a_stream_cut_within_a_record_ends_that_record_first(self, house: House) -> None:
        """Half a record and an error must not become one unreadable line."""
        await house.node("one", breaks_after(SSE_HEAD, chunk(b'{"mess')))
        client = await post(house, STREAM, "/api/chat")
        await client.head()
        assert b'\n{"error":' in (await client.rest()).split(b'{"mess', 1)[1]

    async def test_an_error_that_the_node_has_told_is_not_told_twice(self, house: House) -> None:
        """A node's own gateway ends a broken stream as we do; its record is enough."""
        told = chunk(b'data: {"error":{"message":"gone"}}\n\n')
        await house.node("one", breaks_after(SSE_HEAD, chunk(b"data: 1\n\n"), told))
        client = await post(house, STREAM)
        await client.head()
        assert (await client.rest()).endswith(told)

    async def test_a_stream_cut_within_a_chunk_is_cut_for_the_client(self, house: House) -> None:
        """No record of ours can stand inside somebody else's chunk; the framing tells the client."""
        await house.node("one", breaks_after(SSE_HEAD, b"ff\r\ndata: 1"))
        client = await post(house, STREAM)
        await client.head()
        assert await client.rest() == b"ff\r\ndata: 1"

    async def test_a_client_that_goes_away_ends_the_upstream(self, house: House) -> None:
        """B6: at once, and it is recorded as cancelled."""
        gone = asyncio.Event()

        async def script(conversation: Conversation) -> None:
            await conversation.request()
            await conversation.send(SSE_HEAD + chunk(b"data: 1\n\n"))
            await conversation.closed()
            gone.set()

        await house.node("one", script)
        client = await post(house, STREAM)
        await client.head()
        client.abort()
        await asyncio.wait_for(gone.wait(), 5)
        assert (await house.record()).outcome == "cancelled"
        assert house.registry.nodes["one"].in_flight == 0

    async def test_a_client_that_goes_away_while_a_node_is_being_connected(self, house: House) -> None:
        """Whatever the connection comes to, the request is over and its place is given back."""
        await house.node("one", answers(whole()))
        client = await post(house)
        client.abort()
        assert (await house.record()).outcome in {"cancelled", "done"}
        assert house.registry.nodes["one"].in_flight == 0


class TestDraining:
    async def test_requests_under_way_finish(self, house: House) -> None:
        """Nothing new is taken, what has begun ends well."""
        more = asyncio.Event()

        async def script(conversation: Conversation) -> None:
            await conversation.request()
            await conversation.send(SSE_HEAD + chunk(b"data: 1\n\n"))
            await more.wait()
            await conversation.send(b"0\r\n\r\n")

        await house.node("one", script)
        idle, busy = await house.client(), await post(house, STREAM)
        await busy.head()
        drained = asyncio.create_task(house.gateway.drain(5))
        assert await idle.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await house.client()
        more.set()
        assert await busy.chunks() == [b"data: 1\n\n"]
        await drained
