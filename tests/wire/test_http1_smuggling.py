"""No request of the corpus gets through, however it arrives and whatever came before it.

The table, its sources and the names of the attacks are in `smuggling.py`.
"""

import random
import re

import pytest
from tests.wire.smuggling import BODY, CANARY, CORPUS, HOST, LEGAL, LINE, MAX_BODY, SIZED, Case, chunked, message

from llm_router.errors import ClientError
from llm_router.wire.http1 import Request, RequestReader

LONG = 5000  # bytes from which on a case is cut at some places only
EDGE = 200  # bytes at either end of a long case where it is still cut everywhere

Facts = tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]

EACH = pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.id)


def reader() -> RequestReader:
    return RequestReader(max_body=MAX_BODY)


def refusal(reader: RequestReader, *pieces: bytes) -> int:
    """The status that the pieces are refused with; 0 where they are not."""
    try:
        for piece in pieces:
            reader.feed(piece)
    except ClientError as error:
        return error.status
    return 0


def cut_everywhere(data: bytes) -> list[tuple[bytes, ...]]:
    """Whole, in two pieces wherever they meet, and byte by byte."""
    if len(data) <= LONG:
        places, step = list(range(1, len(data))), 1
    else:
        places = [*range(1, EDGE), *range(EDGE, len(data) - EDGE, 7919), *range(len(data) - EDGE, len(data))]
        step = 97
    halves = [(data[:place], data[place:]) for place in places]
    return [(data,), *halves, tuple(data[at : at + step] for at in range(0, len(data), step))]


def facts(request: Request) -> Facts:
    head = request.head
    return head.method, head.target, list(head.headers), request.body


def taken(*pieces: bytes) -> list[Facts]:
    """What a new reader makes of pieces that are all good."""
    fresh = reader()
    assert refusal(fresh, *pieces) == 0
    return [facts(request) for request in fresh.ready]


class TestRefused:
    @EACH
    def test_however_it_arrives(self, case: Case) -> None:
        """Refused with the right status wherever TCP cuts it; neither it nor what follows it is ever ready."""
        wrong = []
        for pieces in cut_everywhere(case.bad + CANARY):
            fresh = reader()
            status = refusal(fresh, *pieces)
            if status not in case.statuses or fresh.ready:
                wrong.append((status, len(fresh.ready), len(pieces), pieces[0][-20:]))
        assert wrong == []

    @EACH
    def test_after_the_nearest_good_request(self, case: Case) -> None:
        """A head that was read before vouches for no other: good ones of the pipeline are served, this one is not."""
        near = taken(case.near)
        assert [body for *_, body in near] == [BODY]
        fresh = reader()
        assert refusal(fresh, case.near, case.near + case.bad + CANARY) in case.statuses
        assert [facts(request) for request in fresh.ready] == near * 2

    @EACH
    def test_it_leaves_nothing_behind(self, case: Case) -> None:
        """Its reader is spent; on a new connection it is refused again, and the good one next to it is what it was."""
        before = taken(case.near)
        for _ in range(2):
            fresh = reader()
            for data in (case.bad + CANARY, CANARY, case.near):
                assert refusal(fresh, data) in case.statuses
            assert not fresh.ready
        assert taken(case.near) == before

    def test_a_body_over_the_limit_that_comes_in_one_piece(self) -> None:
        """The limit holds also where there is nothing to wait for."""
        over = message(HOST, b"Content-Length: %d" % (MAX_BODY + 1), body=b"x" * (MAX_BODY + 1))
        for pieces in ((over,), (SIZED + over,), (over[:-1], over[-1:])):
            assert refusal(reader(), *pieces) == 413


class TestTaken:
    @pytest.mark.parametrize("name", LEGAL)
    def test_what_is_odd_and_legal(self, name: str) -> None:
        """One request with the body that it announced, and the next one begins where that ends, however it is cut."""
        data, body = LEGAL[name]
        for pieces in cut_everywhere(data + CANARY):
            requests = taken(*pieces)
            assert [request[3] for request in requests] == [body, BODY], pieces
            assert [b"canary" in request[1] for request in requests] == [False, True], pieces

    def test_trailers_are_no_headers(self) -> None:
        """They came after the decisions that headers are for (RFC 9110 §6.5.1)."""
        end = b"d\r\n" + BODY + b"\r\n0\r\nX-Api-Key: k\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"
        fresh = reader()
        fresh.feed(chunked(end) + CANARY)
        first, second = fresh.ready
        assert [name for name, _ in first.head.headers] == [b"host", b"transfer-encoding"]
        assert (first.body, first.keep_alive, second.body) == (BODY, True, BODY)


class TestHeadsAlike:
    """Heads that have much in common are still each their own."""

    def test_only_the_length_differs(self) -> None:
        """Each body ends where its own head says."""
        lengths = [5, 7, 5, 0, 13, 500, 50, 5, 1000, 1]
        data = b"".join(message(HOST, b"Content-Length: %d" % n, body=b"x" * n) for n in lengths)
        for cut in range(1, 800):
            assert [len(body) for *_, body in taken(data[:cut], data[cut:])] == lengths

    def test_one_byte_of_the_head_differs(self) -> None:
        """Every byte of a head, changed to another one, makes another request or none: never the one before."""
        head = SIZED[: -len(BODY)]
        first = taken(SIZED)
        for at in range(len(head) - 4):
            other = b"2" if head[at : at + 1] != b"2" else b"3"
            fresh = reader()
            refusal(fresh, SIZED + head[:at] + other + head[at + 1 :] + BODY)
            requests = [facts(request) for request in fresh.ready]
            assert requests[:1] == first
            assert requests[1:2] != first, at

    def test_one_byte_of_the_head_is_missing_or_double(self) -> None:
        """The same for a byte less or more, but for the spaces around a value, which say nothing (RFC 9112 §5.1)."""
        head = SIZED[: -len(BODY)]
        first = taken(SIZED)
        for at in range(len(head) - 4):
            for changed in (head[:at] + head[at + 1 :], head[: at + 1] + head[at:]):
                if re.sub(b": *", b":", changed) != re.sub(b": *", b":", head):
                    fresh = reader()
                    refusal(fresh, SIZED + changed + BODY)
                    assert [facts(request) for request in fresh.ready][1:2] != first, at

    def test_the_same_fields_in_another_version_or_method(self) -> None:
        """What the request line says holds for its own request alone."""
        lines = [LINE, LINE[:-1] + b"1", LINE.replace(b"POST", b"GET"), LINE.replace(b"chat", b"CHAT")]
        requests = taken(*(message(HOST, b"Content-Length: 13", line=line) for line in lines * 2))
        assert [b"%b %b HTTP/1.1" % request[:2] for request in requests] == lines * 2

    def test_keep_alive_and_version_are_each_requests_own(self) -> None:
        """HTTP/1.0 and Connection: close do not stick to the fields that they came with, here or elsewhere."""
        old, new = message(HOST, b"Content-Length: 13", line=LINE[:-1] + b"0"), SIZED
        closing = message(HOST, b"Content-Length: 13", b"Connection: close")
        for data, expected in [(new, (True, False)), (old, (False, True)), (closing, (False, False))] * 2:
            fresh = reader()
            fresh.feed(data)
            (request,) = fresh.ready
            assert (request.keep_alive, request.head.http10) == expected

    def test_many_heads(self) -> None:
        """More different heads than anybody remembers, in any order, each with its own body."""
        dice = random.Random(5)  # noqa: S311 - the same every time is what is wanted
        numbers = [dice.randrange(300) for _ in range(3000)]
        data = b"".join(message(HOST, b"X: %d" % n, b"Content-Length: %d" % n, body=b"y" * n) for n in numbers)
        found = taken(*(data[at : at + 1460] for at in range(0, len(data), 1460)))
        assert [(dict(headers)[b"x"], len(body)) for _, _, headers, body in found] == [(b"%d" % n, n) for n in numbers]

    def test_what_one_request_becomes_is_not_the_nexts(self) -> None:
        """The gateway decides for one request that it is the connection's last, and not for those that look like it."""
        fresh = reader()
        fresh.feed(SIZED + SIZED)
        first, second = fresh.ready
        first.keep_alive = False
        assert second.keep_alive
        assert [request.keep_alive for request in self._read(SIZED)] == [True]

    def _read(self, data: bytes) -> list[Request]:
        fresh = reader()
        fresh.feed(data)
        return list(fresh.ready)
