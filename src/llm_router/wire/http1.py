"""HTTP/1.1 messages: read from bytes, and their heads written. Sans-I/O: readers are fed and asked.

Rule 1: a head is never copied raw; it is read, filtered and written anew (`heads.py`).
Rule 2: hop-by-hop headers end here (RFC 9110 §7.6.1), on both ways.
Rule 3: a response's body passes as it came unless the framing itself has to change; the chunks in it are followed by
        httptools (llhttp), which costs a seventh of a microsecond for a token.
Rule 4: after one error a reader is spent, and so is its connection.
"""

import re
from collections import deque
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools
import msgspec

from llm_router.errors import BadRequest, BodyTooLarge, ClientError, HeadTooLarge, UpstreamFailed
from llm_router.wire.chunked import ChunkDecoder, ChunkError
from llm_router.wire.heads import (
    END,
    HOP_BY_HOP,
    MAX_HEADERS,
    Malformed,
    RequestHead,
    ResponseHead,
    has_bare_lf,
    may_become_a_request,
    read_request_head,
    read_response_head,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HEAD = 64 * 1024  # bytes; nginx and h2o allow 32 to 64 kB, and cookies and bearer tokens fit well below it

# Written anew by us in every request, or ours to answer (RFC 9110 §10.1.1 for Expect).
REWRITTEN = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"x-request-id"}
# A key for this router is nobody else's business: it does not travel on to nodes.
CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"cookie"})

LAST_CHUNK = b"0\r\n\r\n"

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"  # what llhttp is told of a body's framing
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
FIRST_LINE = 40  # bytes after which it is plain whether somebody speaks HTTP
_VERSION = b"HTTP/1."
SURPLUS = "it sent bytes after the end of its answer"


_NO_HEAD = read_response_head(b"HTTP/1.1 500 \r\n", 15)[0]  # of an answer that has not come


class Framing(Enum):
    """How a message's end is known (RFC 9112 §6.3)."""

    NONE = "no body"
    LENGTH = "content-length"
    CHUNKED = "chunked"
    CLOSE = "until the connection closes"


# The members by themselves: looking one up in its class takes longer than all else that is done with it.
NONE, LENGTH, CHUNKED, CLOSE = Framing


class Phase(Enum):
    """Where a client's connection stands: it tells which time-out applies."""

    IDLE = "between requests"
    HEAD = "within a head"
    BODY = "within a body"


IDLE, HEAD, BODY = Phase


class Upload:
    """The body of a request that is passed on while it comes: what has come and was not taken yet.

    `length`: bytes in all, None where nobody knows. `came` is called when there is more, or all of it.
    """

    __slots__ = ("_pieces", "came", "complete", "length")

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.complete = False
        self.came: Callable[[], None] | None = None
        self._pieces: list[bytes] = []

    def feed(self, pieces: list[bytes], *, complete: bool) -> None:
        """These came next."""
        self._pieces += pieces
        self.complete = complete
        if self.came is not None:
            self.came()

    def take(self) -> bytes:
        """What has come since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class Request(msgspec.Struct, eq=False):
    """One request, complete but for an upload.

    `keep_alive`: whether its connection may carry another one, as far as we know by now.
    """

    head: RequestHead
    body: bytes
    keep_alive: bool
    upload: Upload | None = None


class RequestReader:
    """Fed with what a client sends. Complete requests wait in `ready`, in order; pipelining needs nothing else.

    A POST to a path that begins with `uploads` is there as soon as its head is, and its body has no limit.
    """

    __slots__ = (
        "_chunks",
        "_head",
        "_left",
        "_max_body",
        "_max_head",
        "_max_headers",
        "_pieces",
        "_size",
        "_spent",
        "_unread",
        "_upload",
        "_uploads",
        "phase",
        "ready",
    )

    def __init__(
        self, *, max_body: int, max_head: int = MAX_HEAD, max_headers: int = MAX_HEADERS, uploads: bytes = b""
    ) -> None:
        """Bytes, bytes and lines; `uploads`: see above, b"" for none."""
        self._max_body = max_body
        self._uploads = uploads
        self._upload: Upload | None = None
        self._max_head = max_head
        self._max_headers = max_headers
        self._unread = bytearray()  # the beginning of a head
        self._head: RequestHead | None = None  # of the request whose body is being read
        self._chunks: ChunkDecoder | None = None
        self._left = 0  # bytes of a body of known length that are still to come
        self._size = 0
        self._pieces: list[bytes] = []
        self._spent: ClientError | None = None
        self.phase = IDLE
        self.ready: deque[Request] = deque()

    def feed(self, data: bytes) -> bool:
        """Take bytes in; True when the client waits for `100 Continue` before it sends its body.

        Raises:
            ClientError: the bytes are not a request, or over a limit. Answer it and close.
        """
        if self._spent is not None:
            raise self._spent
        try:
            waits = False
            while data:
                if self._head is not None:
                    data = self._read_body(data)
                else:
                    data, waits = self._read_head(data)
        except (Malformed, ChunkError) as error:
            self._spent = BadRequest(f"malformed HTTP request: {error}")
        except ClientError as error:
            self._spent = error
        else:
            return waits
        self._unread = self._unread or bytearray(data[: self._max_head])
        raise self._spent

    @property
    def path(self) -> bytes:
        """What is known of the path of the request that is being read, or could not be."""
        if self._head is not None:
            return self._head.path
        target = bytes(self._unread).partition(b"\r\n")[0].split(b" ")[1:2]
        return target[0].partition(b"?")[0] if target else b""

    # -- the head

    def _read_head(self, data: bytes) -> tuple[bytes, bool]:
        """What follows the head in these bytes, and whether the client waits."""
        end = -1 if self._unread else data.find(END)
        if end <= 0:
            data = self._gathered(data)
            if not data:
                return b"", False
            end = data.find(END)
        if end > self._max_head:
            raise self._head_too_large()
        head, length = read_request_head(data, end + 2)
        if len(head.headers) >= self._max_headers:
            self._count(head, length)
        rest = data[end + 4 :]
        whole = length == len(rest) and length <= self._max_body  # nearly every request comes in one piece
        if (whole or not length) and not head.chunked:
            self.phase = IDLE
            self.ready.append(Request(head, rest if length else b"", head.keep_alive))
            return b"" if length else rest, False
        self._begin_body(head, length)
        return rest, head.expects_continue and not rest

    def _gathered(self, data: bytes) -> bytes:
        """What came so far, once the end of a head is in it."""
        unread = self._unread
        searched = max(0, len(unread) - 3)
        unread += data
        empty = _EMPTY_LINES.match(unread)  # before a request they are no error (RFC 9112 §2.2)
        if empty is not None:
            del unread[: empty.end()]
        if unread.find(END, searched if len(unread) > searched else 0) < 0:
            self._await_head(searched)
            return b""
        whole = bytes(unread)
        unread.clear()
        return whole

    def _await_head(self, known: int) -> None:
        """The head is not complete; what cannot become one need not be waited for."""
        unread = self._unread
        if not unread:
            return
        self.phase = HEAD
        if len(unread) > self._max_head:
            raise self._head_too_large()
        if known < FIRST_LINE and not may_become_a_request(bytes(unread[:FIRST_LINE])):
            raise Malformed("it does not begin with METHOD TARGET HTTP/1.1")
        if has_bare_lf(unread[known:]):
            raise Malformed("a line feed without its carriage return")

    def _count(self, head: RequestHead, length: int | None) -> None:
        """There are many headers; the length that was cut out is one of them."""
        if len(head.headers) + (length is not None and head.length is None) > self._max_headers:
            raise HeadTooLarge(f"the request has more than {self._max_headers} headers (max-headers)")

    def _head_too_large(self) -> HeadTooLarge:
        return HeadTooLarge(f"the request's head is over {self._max_head} bytes (max-head)")

    # -- the body

    def _begin_body(self, head: RequestHead, length: int | None) -> None:
        self._head = head
        self.phase = BODY
        self._left = length or 0
        self._size = 0
        self._chunks = ChunkDecoder() if head.chunked else None
        if self._uploads and head.method == b"POST" and head.path.startswith(self._uploads):
            self._upload = Upload(None if head.chunked else length)
            self.ready.append(Request(head, b"", keep_alive=False, upload=self._upload))
        elif self._left > self._max_body:
            raise self._body_too_large()

    def _read_body(self, data: bytes) -> bytes:
        """What follows the body in these bytes."""
        if self._chunks is not None:
            pieces, rest = self._chunks.feed(data)
            complete = self._chunks.complete
        else:
            pieces, rest = [data[: self._left]], data[self._left :]
            self._left -= len(pieces[0])
            complete = not self._left
        if self._upload is not None:
            self._upload.feed(pieces, complete=complete)
            if complete:
                self._head = self._upload = None
                self.phase = IDLE
            return rest
        self._pieces += pieces
        self._size += sum(map(len, pieces))
        if self._size > self._max_body:
            raise self._body_too_large()
        if complete:
            self._complete()
        return rest

    def _complete(self) -> None:
        head, self._head = self._head, None
        pieces, self._pieces = self._pieces, []
        if head is not None:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self.ready.append(Request(head, body, head.keep_alive))
        self.phase = IDLE

    def _body_too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the request's body is over the limit of {self._max_body} bytes (max-body)")


class ResponseReader(msgspec.Struct, eq=False):
    """Fed with what an upstream sends for one request; gives back the body's bytes as they stand on the wire.

    `status` is 0 until the head is complete. `complete` turns True with the last byte. `keep_alive` then says whether
    the connection can carry another request.
    """

    head: ResponseHead = _NO_HEAD
    _head_only: bool = False  # the request was HEAD: no body follows, whatever the head says (RFC 9112 §6.3)
    _parser: httptools.HttpResponseParser | None = None  # while chunks come
    _surplus: bool = False
    _unread: bytes = b""  # of the head
    _before: bytes = b""  # what came last, at least the six bytes in which a body may end
    _left: int = 0
    status: int = 0
    framing: Framing = CLOSE
    length: int = 0
    complete: bool = False
    keep_alive: bool = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes in; what of them is body, as it stands on the wire.

        Raises:
            UpstreamFailed: not HTTP, a head over the limit, or bytes after the end.
        """
        parser = self._parser
        if parser is None:
            return self._follow(data) if self.status else self._read_head(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._parser = None
            raise UpstreamFailed(f"it sent what is not HTTP: {error}") from None
        if self.complete:
            self._check_end(data)
        self._before = data if len(data) > 5 else (self._before + data)[-6:]
        return data

    def eof(self) -> None:
        """The upstream closed its side: the end of a close-delimited body, an error otherwise.

        Raises:
            UpstreamFailed: it closed before the message was complete.
        """
        if self.status and self.framing is CLOSE:
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
            self.feed(LAST_CHUNK)
        except UpstreamFailed:
            return False
        return self.complete

    # -- the head

    def _read_head(self, data: bytes) -> bytes:
        if self._unread:
            data = self._unread + data
        end = data.find(END)
        if end < 0 or end > MAX_HEAD:
            self._await_head(data)
            return b""
        try:
            head, length = read_response_head(data, end + 2)
        except Malformed as error:
            raise UpstreamFailed(f"it sent what is no answer: {error}") from None
        self._unread = b""
        self.head = head
        self.status = head.status
        rest = data[end + 4 :]
        if length == len(rest) and head.has_body and not self._head_only:  # nearly every answer that is no stream
            self.framing = LENGTH
            self.length = length
            self.complete = True
            self.keep_alive = head.keep_alive
            return rest
        self._begin_body(head, length)
        return ResponseReader.feed(self, rest) if rest else b""  # as it stands: a child's own feed decodes it

    def _await_head(self, data: bytes) -> None:
        self._unread = data
        if len(data) > MAX_HEAD:
            raise UpstreamFailed(f"it sent a head over {MAX_HEAD} bytes")
        if not data.startswith(_VERSION[: len(data)]) or has_bare_lf(data):
            raise UpstreamFailed("it sent what is not HTTP")

    def _begin_body(self, head: ResponseHead, length: int | None) -> None:
        self.length = length or 0  # where there is no body, that of the one which GET would get
        if self._head_only or not head.has_body:
            self.framing = NONE
            self._end()
        elif head.chunked:
            self.framing = CHUNKED
            self._parser = httptools.HttpResponseParser(self)
            self._parser.feed_data(_CHUNKED_HEAD)
        elif length is not None:
            self.framing = LENGTH
            self._left = length
            if not length:
                self._end()

    # -- the body

    def _follow(self, data: bytes) -> bytes:
        """A body that is not chunked."""
        if self.complete:
            raise UpstreamFailed(SURPLUS)
        if self.framing is LENGTH:
            self._left -= len(data)
            if self._left < 0:
                raise UpstreamFailed(SURPLUS)
            if not self._left:
                self._end()
        return data

    def _check_end(self, last: bytes) -> None:
        self._parser = None  # it refers back to us: without this, every answer would be left to the garbage collector
        if self._surplus or not _ends_a_body((self._before + last)[-6:]):
            raise UpstreamFailed(SURPLUS)

    def _end(self) -> None:
        self.complete = True
        self.keep_alive = self.head.keep_alive

    # -- called by httptools

    def on_message_begin(self) -> None:
        self._surplus = self.complete

    def on_message_complete(self) -> None:
        self._end()


class DecodedResponseReader(ResponseReader):
    """As its parent, but gives back the body with its framing removed."""

    _decoded: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Take bytes in; the decoded body's bytes among them."""
        body = super().feed(data)
        if self.framing is not CHUNKED:
            return body
        decoded, self._decoded = self._decoded, []
        return b"".join(decoded)

    def on_body(self, data: bytes) -> None:
        self._decoded.append(data)


def _ends_a_body(end: bytes) -> bool:
    """Whether the last bytes are those of a chunked body and no empty line more, which llhttp would not mind."""
    return end.endswith(END) and end != b"\r\n\r\n\r\n"


def request_head(
    head: RequestHead, target: bytes, host: bytes, length: int, drop: frozenset[bytes], extra: bytes
) -> bytes:
    """The head of a request to an upstream. `drop`: names not passed on; `extra`: whole header lines of ours."""
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n%b\r\n" % (
        head.method,
        target,
        host,
        head.lines(drop),
        length,
        extra,
    )


def chunked_request_head(head: RequestHead, host: bytes, drop: frozenset[bytes], extra: bytes) -> bytes:
    """As `request_head`, for a body whose length nobody knows."""
    lines = head.lines(drop)
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%btransfer-encoding: chunked\r\n%b\r\n" % (
        head.method,
        head.target,
        host,
        lines,
        extra,
    )


def response_head(status: int, lines: bytes, framing: Framing, length: int, extra: bytes) -> bytes:
    """The head of a response to a client, with the framing that the body will have. `lines`, `extra`: header lines."""
    first = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    if framing is LENGTH or (framing is NONE and length):
        return b"%b%bcontent-length: %d\r\n%b\r\n" % (first, lines, length, extra)
    coding = b"transfer-encoding: chunked\r\n" if framing is CHUNKED else b""
    return b"".join((first, lines, coding, extra, b"\r\n"))
