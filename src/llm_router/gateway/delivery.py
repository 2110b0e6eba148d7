"""How an upstream's answer reaches the client: four ways, chosen when its head is there.

    Whole     kept until complete, then written in one piece; a node that dies in the middle of it can still be replaced
    Relay     the body's bytes pass as they came, framing and all
    Reframed  the body passes decoded, in framing of ours: a translated or close-delimited answer, an HTTP/1.0 client
    Told      an error, to a client whose stream has begun with signs of life

All are fed with what the reader gives back and say by `started` whether the client has got anything yet.
"""

from collections.abc import Callable
from typing import Protocol

from llm_router.gateway.origins import ANSWERED
from llm_router.wire.heads import HOP_BY_HOP
from llm_router.wire.http1 import CHUNKED, CLOSE, LAST_CHUNK, LENGTH, ResponseReader, response_head
from llm_router.wire.stream import chunk

# Ours to write in every response; and which web pages may read it is not an upstream's to say.
DROP = HOP_BY_HOP | ANSWERED | {b"content-length", b"x-llm-router-node", b"x-queue-wait-ms", b"x-request-id"}


class Delivery(Protocol):
    """What the exchange asks of each way."""

    started: bool

    def feed(self, body: bytes) -> None:
        """Bytes of the body came."""

    def end(self) -> None:
        """The body is complete."""

    def can_append(self) -> bool:
        """Whether a record of ours may follow what the client has got."""

    def append(self, record: bytes) -> None:
        """Write a record of ours."""


Write = Callable[[bytes], None]


class Whole:
    """Kept until complete; `convert` makes the client's body of the upstream's."""

    def __init__(
        self,
        write: Write,
        status: int,
        lines: bytes,
        extra: bytes,
        convert: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """`lines`: the answer's headers; `extra`: ours."""
        self.started = False
        self._write = write
        self._status = status
        self._lines = lines
        self._extra = extra
        self._convert = convert
        self._body = b""

    def feed(self, body: bytes) -> None:
        """Keep it."""
        self._body = self._body + body if self._body else body

    def end(self) -> None:
        """Write it all."""
        body = self._convert(self._body) if self._convert is not None else self._body
        head = response_head(self._status, self._lines, LENGTH, len(body), self._extra)
        self.started = True
        self._write(head + body)

    def can_append(self) -> bool:
        """Never: it has one body, of one length."""
        return False

    def append(self, record: bytes) -> None:
        """Never asked for."""
        raise NotImplementedError


class Told:
    """An answer that is not the stream which the client was promised: kept until complete, then told in `stream`."""

    def __init__(self, stream: "Reframed", tell: Callable[[bytes], bytes]) -> None:
        """`tell` makes a record of the answer's body."""
        self.started = False
        self._stream = stream
        self._tell = tell
        self._body = b""

    def feed(self, body: bytes) -> None:
        """Keep it."""
        self._body += body

    def end(self) -> None:
        """Tell it, and end the stream."""
        self.started = True
        self._stream.append(self._tell(self._body))
        self._stream.end()

    def can_append(self) -> bool:
        """The stream goes on."""
        return True

    def append(self, record: bytes) -> None:
        """Write a record of ours."""
        self._stream.append(record)


class Relay:
    """Bytes pass as they came."""

    def __init__(self, write: Write, reader: ResponseReader, extra: bytes) -> None:
        self.started = False
        self._write = write
        self._reader = reader
        self._passed = False  # any byte of the body
        self._head = response_head(reader.status, reader.head.lines(DROP), reader.framing, reader.length, extra)

    def feed(self, body: bytes) -> None:
        """Pass it on; the head goes out with the first bytes, in one write."""
        self._passed = True
        if self._head:
            self.started = True
            body, self._head = self._head + body, b""
        self._write(body)

    def end(self) -> None:
        """Nothing more, but the head of an answer without a body: the framing that came has ended the message."""
        if self._head:
            self.feed(b"")

    def can_append(self) -> bool:
        """Before the first chunk, as often as need be; between two, once, since asking spends the reader."""
        if self._reader.framing is not CHUNKED:
            return False
        return not self._passed or self._reader.at_chunk_boundary()

    def append(self, record: bytes) -> None:
        """As a chunk of its own."""
        passed = self._passed
        self.feed(chunk(record))
        self._passed = passed


class Reframed:
    """Bytes pass decoded, in chunks of ours; to an HTTP/1.0 client bare, and the connection's end is theirs."""

    def __init__(
        self,
        write: Write,
        status: int,
        lines: bytes,
        extra: bytes,
        *,
        chunked: bool,
        convert: Callable[[bytes], bytes] | None = None,
        finish: Callable[[], bytes] | None = None,
    ) -> None:
        """`convert` and `finish`: what makes the client's bytes of the upstream's, and what follows its last."""
        self.started = False
        self._write = write
        self._chunked = chunked
        self._convert = convert
        self._finish = finish
        framing = CHUNKED if chunked else CLOSE
        self._head = response_head(status, lines, framing, 0, extra)

    def has_begun(self) -> None:
        """The client has the head already, and signs of life after it."""
        self._head = b""

    def feed(self, body: bytes) -> None:
        """Pass on what comes of it."""
        if self._convert is not None:
            body = self._convert(body)
        if body:
            self.append(body)

    def end(self) -> None:
        """Pass on the rest and end the message."""
        rest = self._finish() if self._finish is not None else b""
        if rest or self._head:
            self.append(rest)
        if self._chunked:
            self._write(LAST_CHUNK)

    def can_append(self) -> bool:
        """Always, once it has begun."""
        return True

    def append(self, record: bytes) -> None:
        """Write bytes in this answer's framing, the head before the first of them."""
        self.started = True
        framed = chunk(record) if self._chunked else record
        if self._head:
            framed, self._head = self._head + framed, b""
        self._write(framed)
