"""HTTP/1.1 heads and framing, without a socket."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.errors import BadRequest, BodyTooLarge, HeadTooLarge, UpstreamFailed
from llm_router.wire.heads import HOP_BY_HOP
from llm_router.wire.http1 import (
    CREDENTIALS,
    REWRITTEN,
    DecodedResponseReader,
    Framing,
    Phase,
    Request,
    RequestReader,
    ResponseReader,
    request_head,
    response_head,
)
from llm_router.wire.stream import chunk

POST = b"POST /api/chat?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Two: 2\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, max_body: int = 1000) -> list[Request]:
    reader = RequestReader(max_body=max_body)
    reader.feed(data)
    return list(reader.ready)


class TestRequests:
    def test_a_request_is_read_whole(self) -> None:
        """Method, target, headers and body come out as they went in; names in lower case."""
        (request,) = read(POST)
        head = request.head
        assert (head.method, head.target, head.path, request.body) == (
            b"POST",
            b"/api/chat?x=1",
            b"/api/chat",
            b"hello",
        )
        assert head.headers == [(b"host", b"a"), (b"x-two", b"2")]  # without the length, which the body has
        assert request.keep_alive
        assert not head.http10

    @given(cuts=st.lists(st.integers(0, len(POST) * 2), max_size=8))
    def test_where_the_bytes_are_cut_does_not_matter(self, cuts: list[int]) -> None:
        """Two pipelined requests come out the same however they arrive."""
        data = POST + POST
        edges = [0, *sorted(cuts), len(data)]
        reader = RequestReader(max_body=1000)
        for begin, end in pairwise(edges):
            if begin < end:
                reader.feed(data[begin:end])
        assert [(r.head.target, r.body) for r in reader.ready] == [(b"/api/chat?x=1", b"hello")] * 2

    def test_a_chunked_body_is_decoded(self) -> None:
        """A request may come chunked (RFC 9112 §7.1)."""
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        (request,) = read(head + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
        assert request.body == b"hello"

    def test_http10_does_not_keep_alive(self) -> None:
        """An HTTP/1.0 client gets its answer and the end of the connection."""
        (request,) = read(b"GET / HTTP/1.0\r\n\r\n")
        assert request.head.http10
        assert not request.keep_alive

    def test_an_announced_body_over_the_limit_is_refused_before_it_comes(self) -> None:
        """Content-Length alone is enough to say 413."""
        with pytest.raises(BodyTooLarge):
            read(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n")

    def test_a_chunked_body_over_the_limit_is_refused(self) -> None:
        """A body that does not announce its size is counted."""
        with pytest.raises(BodyTooLarge):
            read(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001)

    def test_expect_continue_is_noticed_once(self) -> None:
        """A client that waits for 100 Continue is told so, one that does not wait is not."""
        head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        reader = RequestReader(max_body=10)
        assert reader.feed(head) is True
        assert reader.feed(b"x") is False
        assert RequestReader(max_body=10).feed(head + b"x") is False

    def test_an_offer_to_upgrade_is_ignored(self) -> None:
        """Java's client offers h2c with its first request; the request counts, the offer does not (RFC 9110 §7.8)."""
        head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n"
        assert [r.body for r in read(head + b"ab" + POST)] == [b"ab", b"hello"]

    def test_too_many_headers(self) -> None:
        """101 headers are one too many."""
        with pytest.raises(HeadTooLarge):
            read(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 100 + b"\r\n")

    def test_an_endless_head_is_refused(self) -> None:
        """A head that never ends costs at most 64 kB."""
        reader = RequestReader(max_body=10)
        with pytest.raises(HeadTooLarge):  # noqa: PT012 - which feed is the last straw is the point
            for _ in range(10):
                reader.feed(b"GET / HTTP/1.1\r\na: " + b"x" * 10_000 if reader.phase is Phase.IDLE else b"x" * 10_000)

    @pytest.mark.parametrize(
        "bad",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"GET / HTTP/1.1\r\nBad Header: 1\r\n\r\n",
        ],
        ids=["tls", "two framings", "negative", "space in name"],
    )
    def test_what_is_not_http_is_refused(self, bad: bytes) -> None:
        """Garbage and smuggling are a bad request."""
        with pytest.raises(BadRequest):
            read(bad)

    def test_the_phase_tells_what_is_awaited(self) -> None:
        """Time-outs depend on where the connection stands."""
        reader = RequestReader(max_body=10)
        phases = []
        for part in (b"POST / HT", b"TP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n", b"ab"):
            reader.feed(part)
            phases.append(reader.phase)
        assert phases == [Phase.HEAD, Phase.BODY, Phase.IDLE]


class TestResponses:
    @given(cut=st.integers(1, len(CHUNKED) + 20))
    def test_a_chunked_body_passes_as_it_stands(self, cut: int) -> None:
        """What the reader gives back is the body's bytes on the wire, chunk sizes and all, however they arrive."""
        body = chunk(b"one") + chunk(b"two") + b"0\r\n\r\n"
        data = CHUNKED + body
        reader = ResponseReader()
        got = reader.feed(data[:cut]) + (reader.feed(data[cut:]) if cut < len(data) else b"")
        assert got == body
        assert (reader.status, reader.framing, reader.complete, reader.keep_alive) == (200, Framing.CHUNKED, True, True)

    def test_decoding_removes_the_framing(self) -> None:
        """For clients that cannot have it, and for translation."""
        reader = DecodedResponseReader()
        assert reader.feed(CHUNKED + chunk(b"one") + b"3\r\nt") == b"onet"
        assert reader.feed(b"wo\r\n0\r\n\r\n") == b"wo"
        assert reader.complete

    def test_content_length(self) -> None:
        """A length ends the body."""
        reader = ResponseReader()
        assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab") == b"ab"
        assert not reader.complete
        reader.feed(b"c")
        assert reader.complete

    def test_close_delimited(self) -> None:
        """Without a length the end of the connection is the end of the body."""
        reader = ResponseReader()
        reader.feed(b"HTTP/1.0 200 OK\r\n\r\nab")
        reader.eof()
        assert reader.complete
        assert not reader.keep_alive

    @pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200", CHUNKED + chunk(b"one")])
    def test_an_early_end_is_a_failure(self, data: bytes) -> None:
        """A connection that closes before the message is complete has failed."""
        reader = ResponseReader()
        reader.feed(data)
        with pytest.raises(UpstreamFailed):
            reader.eof()

    @pytest.mark.parametrize(
        "data",
        [
            b"SSH-2.0-OpenSSH_9\r\n",
            CHUNKED + b"0\r\n\r\nHTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabHTTP",
            b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000,
            b"HTTP/1.1 100 Continue\r\n\r\n",
        ],
        ids=["not http", "a second answer", "more than announced", "endless head", "interim"],
    )
    def test_lies_are_failures(self, data: bytes) -> None:
        """What does not fit its own head is not passed on."""
        with pytest.raises(UpstreamFailed):
            ResponseReader().feed(data)

    @pytest.mark.parametrize(
        ("last", "boundary"), [(chunk(b"one"), True), (b"3\r\non", False), (b"9\r\n0\r\n\r\n", False)]
    )
    def test_the_boundary_between_chunks_is_known(self, last: bytes, boundary: bool) -> None:  # noqa: FBT001 - a table
        """A record of ours may only stand between two chunks (requirement B5)."""
        reader = ResponseReader()
        reader.feed(CHUNKED + last)
        assert reader.at_chunk_boundary() is boundary

    def test_a_head_request_has_no_body(self) -> None:
        """HEAD is answered with a length and nothing after it (RFC 9110 §9.3.2)."""
        reader = ResponseReader(_head_only=True)
        assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n") == b""
        assert reader.complete


class TestHeads:
    def test_a_request_is_rebuilt_without_what_was_for_this_hop(self) -> None:
        """Hop-by-hop headers, those that Connection names, and credentials stay here (RFC 9110 §7.6.1)."""
        (request,) = read(
            b"POST /x HTTP/1.1\r\nHost: outside\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\n"
            b"Authorization: Bearer k\r\nX-Api-Key: k\r\nAccept: */*\r\nContent-Length: 2\r\n\r\nab"
        )
        head = request_head(request.head, b"/y", b"node:1", 7, REWRITTEN | CREDENTIALS, b"x-request-id: 9\r\n")
        assert head == (
            b"POST /y HTTP/1.1\r\nhost: node:1\r\naccept: */*\r\ncontent-length: 7\r\nx-request-id: 9\r\n\r\n"
        )

    def test_a_response_is_rebuilt(self) -> None:
        """The framing is ours, the rest passes."""
        reader = ResponseReader()
        reader.feed(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nKeep-Alive: timeout=5\r\n"
            b"Content-Length: 2\r\n\r\n"
        )
        head = response_head(200, reader.head.lines(HOP_BY_HOP), Framing.CHUNKED, 0, b"x-request-id: 9\r\n")
        assert head == (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\nx-request-id: 9\r\n\r\n"
        )
