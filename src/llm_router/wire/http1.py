"""HTTP/1.1 heads and framing, over httptools (llhttp). Sans-I/O: readers are fed bytes and asked.

Rule 1: a head is never copied raw; it is read, filtered and written anew.
Rule 2: hop-by-hop headers end here (RFC 9110 §7.6.1), on both ways.
Rule 3: a body's bytes are passed on as they came unless the framing itself has to change.
Rule 4: after one error a reader is spent, and so is its connection.
"""

import re
from collections import deque
from enum import Enum
from http import HTTPStatus

import httptools

from llm_router.errors import BadRequest, BodyTooLarge, ClientError, HeadTooLarge, UpstreamFailed

Header = tuple[bytes, bytes]

MAX_HEAD = 64 * 1024  # bytes; nginx and h2o allow 32 to 64 kB, and cookies and bearer tokens fit well below it
MAX_HEADERS = 100  # as Apache's LimitRequestFields and aiohttp's default order of magnitude

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Written anew by us in every request, or ours to answer (RFC 9110 §10.1.1 for Expect).
REWRITTEN = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"x-request-id"}
# A key for this router is nobody else's business: it does not travel on to nodes.
CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"cookie"})

LAST_CHUNK = b"0\r\n\r\n"

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


# uri-host [":" port] of RFC 3986 §3.2.2; nothing at all is what an HTTP/1.0 client says
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::(\d{0,5}))?")


class Framing(Enum):
    """How a message's end is known (RFC 9112 §6.3)."""

    NONE = "no body"
    LENGTH = "content-length"
    CHUNKED = "chunked"
    CLOSE = "until the connection closes"


class Phase(Enum):
    """Where a client's connection stands: it tells which time-out applies."""

    IDLE = "between requests"
    HEAD = "within a head"
    BODY = "within a body"


class Request:
    """One complete request; header names are in lower case."""

    __slots__ = ("body", "headers", "http10", "keep_alive", "method", "target")

    def __init__(self, target: bytes) -> None:
        self.target = target
        self.method = b""
        self.headers: list[Header] = []
        self.body = b""
        self.keep_alive = True
        self.http10 = False

    @property
    def path(self) -> bytes:
        """The target without its query."""
        cut = self.target.find(b"?")
        return self.target if cut < 0 else self.target[:cut]

    def header(self, name: bytes) -> bytes:
        """The first value of a header, b"" where it is missing."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""


class RequestReader:
    """Fed with what a client sends. Complete requests wait in `ready`, in order; pipelining needs nothing else.

    After a feed, `wants_continue` says that the client waits for `100 Continue` before it sends its body.
    """

    __slots__ = (
        "_body",
        "_examined",
        "_head_bytes",
        "_max_body",
        "_parser",
        "_request",
        "_size",
        "_spent",
        "phase",
        "ready",
    )

    def __init__(self, *, max_body: int) -> None:
        self._max_body = max_body
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request(b"")
        self._body: list[bytes] = []
        self._size = 0
        self._head_bytes = 0
        self._examined = False
        self._spent: ClientError | None = None
        self.phase = Phase.IDLE
        self.ready: deque[Request] = deque()

    def feed(self, data: bytes) -> bool:
        """Take bytes in; True when the client waits for `100 Continue`.

        Raises:
            ClientError: the bytes are not a request, or over a limit. Answer it and close.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._feed_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._spent = self._spent or BadRequest(f"malformed HTTP request: {error}")
        if self._spent is not None:
            raise self._spent
        if self.phase is Phase.HEAD:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                raise HeadTooLarge(f"the request's head is over {MAX_HEAD} bytes")
        elif self.phase is Phase.BODY and not self._examined:
            self._examined = True
            return self._examine()
        return False

    def _feed_without_upgrade(self, rest: bytes) -> bool:
        """An offer to change protocols may be ignored (RFC 9110 §7.8), but llhttp stops at it, before the body.

        So the head is read once more without the offer, and what follows it is HTTP still.
        """
        request = self.ready.pop()
        if request.method == b"CONNECT":
            raise BadRequest("CONNECT is not supported: this is no forward proxy")
        kept = [b"%b: %b\r\n" % h for h in request.headers if h[0] not in {b"upgrade", b"connection"}]
        self._parser = httptools.HttpRequestParser(self)
        return self.feed(b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method, request.target, b"".join(kept)) + rest)

    @property
    def unfinished(self) -> Request:
        """What is known of the request that is being read, or was read last."""
        return self._request

    def _examine(self) -> bool:
        """The head is there and the body is not: refuse early what will be too large."""
        request = self._request
        announced = request.header(b"content-length")
        if announced and int(announced) > self._max_body:
            raise self._too_large()
        return not request.http10 and request.header(b"expect").lower() == b"100-continue" and not self._size

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the request's body is over the limit of {self._max_body} bytes")

    # -- called by httptools

    def on_message_begin(self) -> None:
        self._request = Request(b"")
        self._body = []
        self._size = self._head_bytes = 0
        self._examined = False
        self.phase = Phase.HEAD

    def on_url(self, url: bytes) -> None:
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._request.headers
        headers.append((name.lower(), value))
        if len(headers) > MAX_HEADERS:
            self._spent = HeadTooLarge(f"the request has more than {MAX_HEADERS} headers")

    def on_headers_complete(self) -> None:
        request, parser = self._request, self._parser
        request.method = parser.get_method()
        request.http10 = parser.get_http_version() == "1.0"
        self.phase = Phase.BODY

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._max_body:
            self._spent = self._too_large()
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._spent is not None:  # it came in one piece with what is over the limit: `feed` refuses it
            return
        request = self._request
        request.keep_alive = self._parser.should_keep_alive()
        request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self.phase = Phase.IDLE
        self.ready.append(request)


class ResponseReader:
    """Fed with what an upstream sends for one request; gives back the body's bytes as they stand on the wire.

    `status` is 0 until the head is complete. `complete` turns True with the last byte. `keep_alive` then says whether
    the connection can carry another request.
    """

    __slots__ = (
        "_head",
        "_head_only",
        "_parser",
        "_surplus",
        "complete",
        "framing",
        "headers",
        "keep_alive",
        "length",
        "status",
    )

    def __init__(self, *, head_only: bool = False) -> None:
        """`head_only`: the request was HEAD, so no body follows whatever the head says (RFC 9112 §6.3)."""
        self._parser = httptools.HttpResponseParser(self)
        self._head = b""
        self._head_only = head_only
        self._surplus = False
        self.status = 0
        self.headers: list[Header] = []
        self.framing = Framing.CLOSE
        self.length = 0
        self.complete = False
        self.keep_alive = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes in; what of them is body, as it stands on the wire.

        Raises:
            UpstreamFailed: not HTTP, a head over the limit, or bytes after the end.
        """
        head_known = self.status != 0
        self._parse(data)
        if head_known:
            return data
        self._head = self._head + data if self._head else data
        if not self.status:
            if len(self._head) > MAX_HEAD:
                raise UpstreamFailed(f"it sent a head over {MAX_HEAD} bytes")
            return b""
        if self.status < 200:
            raise UpstreamFailed(f"it sent an interim answer ({self.status}) unasked")
        rest = self._head[self._head.find(b"\r\n\r\n") + 4 :]
        self._head = b""
        if self._head_only:
            self.complete = True
            return b""
        return rest

    def eof(self) -> None:
        """The upstream closed its side: the end of a close-delimited body, an error otherwise.

        Raises:
            UpstreamFailed: it closed before the message was complete.
        """
        if self.status and self.framing is Framing.CLOSE:
            self.complete = True
        elif not self.complete:
            raise UpstreamFailed(
                "it closed the connection " + ("in the middle of its answer" if self.status else "without an answer")
            )

    def at_chunk_boundary(self) -> bool:
        """Whether a chunk of our own may follow what was passed on. Spends the reader.

        The parser itself is asked: only at a boundary does it take the last chunk for the end of the message.
        """
        try:
            self._parser.feed_data(LAST_CHUNK)
        except httptools.HttpParserError:
            return False
        return self.complete

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise UpstreamFailed("it changed the protocol unasked") from None
        except httptools.HttpParserError as error:
            raise UpstreamFailed(f"it sent what is not HTTP: {error}") from error
        if self._surplus:
            raise UpstreamFailed("it sent bytes after the end of its answer")
        if self.complete:
            del self._parser  # it refers back to us: without this, every answer would be left to the garbage collector

    # -- called by httptools

    def on_message_begin(self) -> None:
        self._surplus = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        for name, value in self.headers:
            if name == b"transfer-encoding":
                self.framing = Framing.CHUNKED
            elif name == b"content-length":
                self.framing = Framing.LENGTH
                self.length = int(value)
        if self.status in {204, 304} or self._head_only:
            self.framing = Framing.NONE  # a length, if there is one, is that of the body which GET would get

    def on_message_complete(self) -> None:
        self.complete = True
        self.keep_alive = self._parser.should_keep_alive() and not self._head_only


class DecodedResponseReader(ResponseReader):
    """As its parent, but gives back the body with its framing removed."""

    __slots__ = ("_decoded",)

    def __init__(self, *, head_only: bool = False) -> None:
        super().__init__(head_only=head_only)
        self._decoded: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Take bytes in; the decoded body's bytes among them."""
        super().feed(data)
        decoded, self._decoded = self._decoded, []
        return b"".join(decoded)

    def on_body(self, data: bytes) -> None:
        self._decoded.append(data)


def is_host(value: bytes) -> bool:
    """Whether a Host header is a host with an optional port (RFC 9112 §3.2: anything else is to be refused)."""
    match = _HOST.fullmatch(value)
    return match is not None and int(match[1] or 0) <= 65535


def request_head(
    request: Request, target: bytes, host: bytes, length: int, drop: frozenset[bytes], extra: bytes
) -> bytes:
    """The head of a request to an upstream. `drop`: names not passed on; `extra`: whole header lines of ours."""
    lines = [request.method, b" ", target, b" HTTP/1.1\r\nhost: ", host]
    for name, value in request.headers:
        if name not in drop:
            lines += (b"\r\n", name, b": ", value)
        elif name == b"connection" and value.lower() not in {b"keep-alive", b"close"}:
            return request_head(_without_named(request, value), target, host, length, drop, extra)
    lines += (b"\r\ncontent-length: %d\r\n" % length, extra, b"\r\n")
    return b"".join(lines)


def response_head(
    status: int, headers: list[Header], framing: Framing, length: int, drop: frozenset[bytes], extra: bytes
) -> bytes:
    """The head of a response to a client, with the framing that the body will have."""
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    for name, value in headers:
        if name not in drop:
            lines += (name, b": ", value, b"\r\n")
    if framing is Framing.CHUNKED:
        lines.append(b"transfer-encoding: chunked\r\n")
    elif framing is Framing.LENGTH or (framing is Framing.NONE and length):
        lines.append(b"content-length: %d\r\n" % length)
    lines += (extra, b"\r\n")
    return b"".join(lines)


def _without_named(request: Request, connection: bytes) -> Request:
    """`Connection` may name further headers that are for this hop only (RFC 9110 §7.6.1)."""
    named = {token.strip().lower() for token in connection.split(b",")} | {b"connection"}
    kept = Request(request.target)
    kept.method = request.method
    kept.headers = [header for header in request.headers if header[0] not in named]
    return kept
