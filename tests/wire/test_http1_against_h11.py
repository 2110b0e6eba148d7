"""h11 as the oracle: whatever we take for a message, it takes for the same message.

Where we differ, on purpose:

* Where h11 mends a head (it joins folded lines, makes one of equal lengths), we refuse it.
* The target is in origin form (RFC 9112 §3.2.2): h11 leaves the absolute form to its caller.
* An empty line before a request is skipped (RFC 9112 §2.2): h11 refuses it. `by_h11` skips it too.
* `Content-Length` is no header of ours but a number; it shows in where the body ends.
* White space before a chunk extension has to be taken (RFC 9112 §7.1.1 and RFC 9110 §5.6.3): h11 refuses it.
* Trailers are dropped (RFC 9112 §7.1.2) and need not make sense: h11 refuses those that contradict themselves.
* HTTP/1.0 may stay (`Connection: keep-alive`): h11 always closes.
* Surplus bytes after an answer are a failure: h11 leaves them to its caller.

`STRICTER` and `STRICTER_ANSWERS` list what h11 takes and we refuse.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.mutation import mutated, sliced
from tests.wire.smuggling import (
    BODY,
    CHUNKED,
    CHUNKS,
    CORPUS,
    HOST,
    IN_CHUNKS,
    LEGAL,
    LENGTH,
    LINE,
    OLD,
    SIZED,
    Case,
    chunked,
    message,
)

from llm_router.errors import ClientError, UpstreamFailed
from llm_router.wire.http1 import DecodedResponseReader, Phase, RequestReader, ResponseReader

MUTATIONS = 1500  # half a second each
SEED = 5  # the same mutations every time; tests/gateway/test_fuzz.py draws new ones
MAX_BODY = 10**6

Headers = list[tuple[bytes, bytes]]


@dataclass
class Asked:
    """One request as a reader sees it."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes
    keep_alive: bool
    http10: bool


@dataclass
class Reading:
    """What a reader makes of a connection's bytes. `refused`: it gives up on what follows `requests`."""

    requests: list[Asked] = field(default_factory=list)
    refused: bool = False
    idle: bool = True

    def while_open(self) -> "Reading":
        """Without what follows a request that is the connection's last: nobody reads on there."""
        for count, request in enumerate(self.requests, 1):
            if not request.keep_alive:
                return Reading(self.requests[:count])
        return self


def by_us(*pieces: bytes) -> Reading:
    reader = RequestReader(max_body=MAX_BODY)
    refused = False
    try:
        for piece in pieces:
            reader.feed(piece)
    except ClientError:
        refused = True
    requests = [
        Asked(r.head.method, r.head.target, told(r.head.headers), r.body, r.keep_alive, r.head.http10)
        for r in reader.ready
    ]
    return Reading(requests, refused, refused or reader.phase is Phase.IDLE)


def by_h11(data: bytes) -> Reading:
    reading = Reading()
    while data := after_empty_lines(data):
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_BODY)
        connection.receive_data(data)
        try:
            asked = one_request(connection)
        except h11.RemoteProtocolError:
            reading.refused = True
            break
        if asked is None:
            reading.idle = False
            break
        reading.requests.append(asked)
        data = connection.trailing_data[0]
    return reading


def after_empty_lines(data: bytes) -> bytes:
    """RFC 9112 §2.2."""
    while data.startswith(b"\r\n"):
        data = data[2:]
    return b"" if data == b"\r" else data


def one_request(connection: h11.Connection) -> Asked | None:
    """None where it is not complete."""
    head: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            break
        else:
            return None
    headers = told(head.headers)
    old = head.http_version < b"1.1"
    keep_alive = b"keep-alive" in tokens(headers) if old else b"close" not in tokens(headers)
    return Asked(head.method, origin_form(head.target), headers, body, keep_alive, old)


def told(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """Without the length; a coding in lower case, as h11 has it."""
    return [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in headers if n != b"content-length"]


def tokens(headers: Headers) -> set[bytes]:
    """What `Connection` says."""
    return {t.strip(b" \t").lower() for name, value in headers if name == b"connection" for t in value.split(b",")}


def origin_form(target: bytes) -> bytes:
    """RFC 9112 §3.2.1 of §3.2.2."""
    absolute = re.fullmatch(rb"(?i:https?)://[^/?#]*(.*)", target)
    if absolute is None:
        return target
    return absolute[1] if absolute[1].startswith(b"/") else b"/" + absolute[1]


def has_bad_whitespace(data: bytes) -> bool:
    """A chunk's size, white space and an extension."""
    return re.search(rb"(?m)^[0-9A-Fa-f]+[\t ]+;", data) is not None


def has_framing_in_trailers(data: bytes) -> bool:
    """What would be a framing, after a last chunk."""
    trailers = rb"\r\n0+(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*(?i:content-length|transfer-encoding):"
    return re.search(trailers, data) is not None


def check_request(data: bytes) -> None:
    if has_bad_whitespace(data) or has_framing_in_trailers(data):
        return
    ours, theirs = by_us(data).while_open(), by_h11(data).while_open()
    assert ours.requests == theirs.requests[: len(ours.requests)]
    if theirs.refused:
        assert ours.refused
    if not ours.refused:
        assert len(ours.requests) == len(theirs.requests)
        assert ours.idle == theirs.idle


GOOD = [
    SIZED,
    IN_CHUNKS,
    OLD,
    message(HOST, LENGTH, b"Connection: close"),
    message(HOST, LENGTH, b"X-A:\t1 2 ", b"Accept: */*", b"X-Request-Id: r-1"),
    message(HOST, b"Content-Length: 0", body=b""),
    message(HOST, body=b"", line=b"GET /x?a=b HTTP/1.1"),
    message(body=b"", line=b"HEAD / HTTP/1.0"),
    message(HOST, body=b"", line=b"OPTIONS * HTTP/1.1"),
    message(HOST, body=b"", line=b"GET http://b:80/x HTTP/1.1"),
    message(HOST, CHUNKED, body=b'5;a=b;c="d"\r\n01234\r\nA\r\n0123456789\r\n0;x\r\nX-A: 1\r\n\r\n'),
    message(HOST, CHUNKED, b"Expect: 100-continue", body=CHUNKS),
    message(HOST, LENGTH, b"Connection: Upgrade", b"Upgrade: h2c"),
]

TOKEN = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=12).map(str.encode)
NAME = TOKEN.filter(
    lambda name: name.lower() not in {b"host", b"content-length", b"transfer-encoding", b"connection", b"te"}
)
VALUE = st.binary(max_size=20).map(lambda raw: bytes(b for b in raw if 32 < b < 127 or b > 159 or b == 32).strip(b" "))
FIELDS = st.lists(st.tuples(NAME, VALUE), max_size=6)
SPACE = st.text(" \t", max_size=2).map(str.encode)
PARTS = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


@st.composite
def valid_requests(draw: st.DrawFn) -> tuple[bytes, Asked]:
    """The bytes of a request, and what they say."""
    method = draw(TOKEN.filter(lambda m: m != b"CONNECT"))
    target = b"/" + draw(st.text("!$%&'()*+,-./09:;=?@AZ_az~", max_size=20)).encode()
    headers = [(b"host", b"a"), *[(name.lower(), value) for name, value in draw(FIELDS)]]
    parts = draw(PARTS)
    framed = draw(st.booleans())
    body = b"".join(parts)
    if framed:
        headers.append((b"transfer-encoding", b"chunked"))
        raw = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        headers.append((b"content-length", b"%d" % len(body)))
        raw = body
    headers = draw(st.permutations(headers))
    lines = [name + b":" + draw(SPACE) + value + draw(SPACE) for name, value in headers]
    data = message(*lines, body=raw, line=b"%b %b HTTP/1.1" % (method, target))
    return data, Asked(method, target, told(headers), body, keep_alive=True, http10=False)


class TestRequests:
    @settings(max_examples=60, deadline=None)
    @given(requests=st.lists(valid_requests(), min_size=1, max_size=3), dice=st.randoms())
    def test_what_is_valid_is_taken(self, requests: list[tuple[bytes, Asked]], dice: random.Random) -> None:
        """Every valid request comes out as it was written, with both, and in whatever pieces it arrives."""
        data = b"".join(raw for raw, _ in requests)
        expected = Reading([asked for _, asked in requests])
        assert by_us(data) == expected
        assert by_h11(data) == expected
        assert by_us(*sliced(data, dice)) == expected

    def test_mutated(self) -> None:
        """What we take, h11 takes for the same requests; what it refuses, we refuse."""
        dice = random.Random(SEED)  # noqa: S311 - the same every time is what is wanted
        for _ in range(MUTATIONS):
            check_request(mutated(GOOD, dice))

    def test_mutated_and_sliced(self) -> None:
        """However bytes are cut, they are the same requests, or refused at the same one, once its head has an end."""
        dice = random.Random(SEED)  # noqa: S311 - as above
        for _ in range(MUTATIONS):
            data = mutated(GOOD, dice) + b"\r\n\r\n" + SIZED
            assert by_us(*sliced(data, dice)) == by_us(data), data

    @settings(max_examples=60, deadline=None)
    @given(data=st.binary(max_size=60), request=valid_requests(), place=st.floats(0, 1))
    def test_noise_within(self, data: bytes, request: tuple[bytes, Asked], place: float) -> None:
        """The same for any bytes anywhere in a valid request."""
        at = int(place * len(request[0]))
        check_request(request[0][:at] + data + request[0][at:])

    @pytest.mark.parametrize("name", LEGAL)
    def test_legal(self, name: str) -> None:
        """What is odd and legal is that to h11 as well."""
        check_request(LEGAL[name][0] + SIZED)

    @pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.id)
    def test_corpus(self, case: Case) -> None:
        """The corpus by the same rule: where it is refused late, what came before is what it was to h11."""
        check_request(case.near + case.bad + SIZED)


# h11 takes these; that they are refused is ours to answer for.
STRICTER = {
    "a line that ends with LF": message(HOST, LENGTH).replace(b"\r\n", b"\n", 1),
    "a folded line": message(HOST, LENGTH, b"X-A: 1", b" 2"),
    "control characters in a value": message(HOST, LENGTH, b"X-A: \x01"),
    "equal lengths": message(HOST, LENGTH, LENGTH),
    "a list of equal lengths": message(HOST, b"Content-Length: 13, 13"),
    "length and coding": message(HOST, LENGTH, CHUNKED, body=CHUNKS),
    "a coding in HTTP/1.0": message(HOST, CHUNKED, body=CHUNKS, line=LINE[:-1] + b"0"),
    "another version": message(HOST, LENGTH, line=LINE[:-3] + b"2.0"),
    "a target that is no path": message(HOST, LENGTH, line=b"POST v1 HTTP/1.1"),
    "a host that is none": message(b"Host: a/b", LENGTH),
    "CONNECT": message(HOST, LENGTH, line=b"CONNECT a:80 HTTP/1.1"),
    "white space after a chunk's size": chunked(CHUNKS.replace(b"d\r", b"d \r", 1)),
    "a bare CR in a chunk's extension": chunked(CHUNKS.replace(b"d\r", b"d;\r\r", 1)),
    "a chunk's size of more digits than anybody needs": chunked(b"00000000000000" + CHUNKS),
}


@pytest.mark.parametrize("name", STRICTER)
def test_stricter(name: str) -> None:
    """Legal to h11, refused here."""
    data = STRICTER[name]
    assert not by_h11(data).refused
    assert by_us(data).refused


@dataclass
class Answered:
    """A response as a reader sees it; `refused`: it is none, or not complete, or followed by more."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    refused: bool = False
    keep_alive: bool = False


REFUSED = Answered(refused=True)


def answer_by_us(*pieces: bytes, head_only: bool = False) -> Answered:
    """Fed to the end, and the upstream closes then."""
    reader = DecodedResponseReader(_head_only=head_only)
    body = b""
    try:
        for piece in pieces:
            body += reader.feed(piece)
        keep_alive = reader.keep_alive
        if not reader.complete:
            reader.eof()
    except UpstreamFailed:
        return REFUSED
    return Answered(reader.status, told(reader.head.headers), body, keep_alive=keep_alive)


def answer_by_h11(data: bytes, *, head_only: bool = False) -> Answered:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_BODY)
    connection.send(h11.Request(method="HEAD" if head_only else "GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    try:
        return one_answer(connection)
    except h11.RemoteProtocolError:
        return REFUSED


def one_answer(connection: h11.Connection) -> Answered:
    answer = Answered()
    ended = False
    while True:
        event = connection.next_event()
        if isinstance(event, h11.InformationalResponse):
            continue
        if isinstance(event, h11.Response):
            answer.status, answer.headers = event.status_code, told(event.headers)
            old = event.http_version < b"1.1"
        elif isinstance(event, h11.Data):
            answer.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        elif event is h11.NEED_DATA and not ended:
            connection.receive_data(b"")
            ended = True
        else:
            return REFUSED
    if connection.trailing_data[0]:
        return REFUSED
    asked = tokens(answer.headers)
    answer.keep_alive = not ended and (b"keep-alive" in asked if old else b"close" not in asked)
    return answer


def check_answer(data: bytes, *, head_only: bool = False) -> None:
    ours, theirs = answer_by_us(data, head_only=head_only), answer_by_h11(data, head_only=head_only)
    if not (ours.refused or has_bad_whitespace(data) or has_framing_in_trailers(data)):
        assert (ours.status, ours.headers, ours.body) == (theirs.status, theirs.headers, theirs.body)
        assert not theirs.refused
        assert theirs.keep_alive or not ours.keep_alive


OK = b"HTTP/1.1 200 OK"
GOOD_ANSWERS = [
    message(LENGTH, line=OK),
    message(b"Content-Type: text/event-stream", CHUNKED, line=OK, body=CHUNKS),
    message(CHUNKED, line=OK, body=b"5;a=b\r\n01234\r\nA\r\n0123456789\r\n0\r\nX-A: 1\r\n\r\n"),
    message(b"Content-Type: text/plain", line=OK),
    message(LENGTH, b"Connection: close", line=b"HTTP/1.1 500 Internal Server Error"),
    message(LENGTH, b"Connection: keep-alive", line=b"HTTP/1.0 404 Not Found"),
    message(LENGTH, line=b"HTTP/1.0 200 OK"),
    message(line=b"HTTP/1.1 204 No Content", body=b""),
    message(LENGTH, line=b"HTTP/1.1 304 Not Modified", body=b""),
    message(b"Content-Length: 0", line=b"HTTP/1.1 429 Too Many Requests", body=b""),
]


@st.composite
def valid_answers(draw: st.DrawFn) -> tuple[bytes, Answered]:
    """The bytes of a response, and what they say."""
    status = draw(st.sampled_from([200, 201, 400, 404, 429, 500, 503, 599]))
    headers = [(name.lower(), value) for name, value in draw(FIELDS)]
    parts = draw(PARTS)
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    body = raw = b"".join(parts)
    if framing == "chunked":
        headers.append((b"transfer-encoding", b"chunked"))
        raw = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    elif framing == "length":
        headers.append((b"content-length", b"%d" % len(body)))
    lines = [name + b":" + draw(SPACE) + value + draw(SPACE) for name, value in headers]
    data = message(*lines, line=b"HTTP/1.1 %d Reason given" % status, body=raw)
    return data, Answered(status, told(headers), body, keep_alive=framing != "close")


class TestAnswers:
    @settings(max_examples=60, deadline=None)
    @given(valid=valid_answers(), dice=st.randoms())
    def test_what_is_valid_is_taken(self, valid: tuple[bytes, Answered], dice: random.Random) -> None:
        """Every valid answer comes out as it was written, with both, and in whatever pieces it arrives."""
        data, expected = valid
        assert answer_by_us(data) == expected
        assert answer_by_h11(data) == expected
        assert answer_by_us(*sliced(data, dice)) == expected

    @pytest.mark.parametrize("data", [*GOOD_ANSWERS, message(CHUNKED, line=OK, body=CHUNKS[:-2] + b"X: 1\r\n\r\n")])
    def test_byte_by_byte(self, data: bytes) -> None:
        """A slow upstream's answer is the same answer."""
        for step in (1, 2, 3):
            assert answer_by_us(*(data[at : at + step] for at in range(0, len(data), step))) == answer_by_us(data)

    @settings(max_examples=60, deadline=None)
    @given(valid=valid_answers(), dice=st.randoms())
    def test_a_body_passes_as_it_stands(self, valid: tuple[bytes, Answered], dice: random.Random) -> None:
        """The reader that does not decode gives back every byte after the head."""
        reader = ResponseReader()
        passed = b"".join([reader.feed(piece) for piece in sliced(valid[0], dice)])
        assert passed == valid[0].partition(b"\r\n\r\n")[2]

    @pytest.mark.parametrize("head_only", [False, True])
    def test_mutated(self, head_only: bool) -> None:  # noqa: FBT001 - a table
        """What we take for an answer is that answer to h11; what it refuses, we refuse."""
        dice = random.Random(SEED)  # noqa: S311 - as above
        for _ in range(MUTATIONS):
            check_answer(mutated(GOOD_ANSWERS, dice), head_only=head_only)

    def test_mutated_and_sliced(self) -> None:
        """However bytes are cut, they are the same answer, or none."""
        dice = random.Random(SEED)  # noqa: S311 - as above
        for _ in range(MUTATIONS):
            data = mutated(GOOD_ANSWERS, dice)
            assert answer_by_us(*sliced(data, dice)) == answer_by_us(data), data

    @settings(max_examples=60, deadline=None)
    @given(noise=st.binary(max_size=60), valid=valid_answers(), place=st.floats(0, 1))
    def test_noise_within(self, noise: bytes, valid: tuple[bytes, Answered], place: float) -> None:
        """The same for any bytes anywhere in a valid answer."""
        at = int(place * len(valid[0]))
        check_answer(valid[0][:at] + noise + valid[0][at:])


STRICTER_ANSWERS = {
    "an interim answer": message(line=b"HTTP/1.1 103 Early Hints", body=b"") + message(LENGTH, line=OK),
    "a line that ends with LF": message(LENGTH, line=OK).replace(b"\r\n", b"\n", 1),
    "a folded line": message(LENGTH, b"X-A: 1", b" 2", line=OK),
    "control characters in a value": message(LENGTH, b"X-A: \x01", line=OK),
    "equal lengths": message(LENGTH, LENGTH, line=OK),
    "length and coding": message(LENGTH, CHUNKED, line=OK, body=CHUNKS),
    "more than one hundred headers": message(LENGTH, *[b"A: b"] * 101, line=OK),
    "a version of its own": message(LENGTH, line=b"HTTP/2.0 200 OK"),
}


@pytest.mark.parametrize("name", STRICTER_ANSWERS)
def test_stricter_answers(name: str) -> None:
    """Legal to h11, a failure of the upstream here."""
    data = STRICTER_ANSWERS[name]
    assert not answer_by_h11(data).refused
    assert answer_by_us(data).refused


def test_the_body_is_there() -> None:
    """The examples above have the body that the corpus says, so that what compares equal is not empty."""
    assert by_us(SIZED).requests[0].body == answer_by_us(GOOD_ANSWERS[0]).body == BODY
