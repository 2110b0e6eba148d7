"""Cuts a stream's bytes into records without reading them, finds the last object, writes SSE events and HTTP chunks.

Rule 1: no record is parsed here; a record is bytes between two separators.
Rule 2: what is not complete yet is kept, up to RECORD_LIMIT.
Rule 3: where the pieces of a stream begin and end makes no difference to the records that come out.

Sources: WHATWG HTML, "Server-sent events", §9.2.6 (a bare carriage return as line end is left out: no inference server
sends one); RFC 9112 §7.1 (chunks).
"""

import re

from llm_router.errors import UpstreamFailed

RECORD_LIMIT = 16 * 1024 * 1024  # bytes; the largest honest record is a whole tool call or image, far below
OBJECT_LIMIT = 4096  # bytes; what `last_object` is for, a count of tokens, takes a few hundred
OBJECT_DEPTH = 8  # objects inside it; OpenAI's `usage` has two

_CHUNK_LINE = re.compile(rb"\r\n[0-9A-Fa-f]{1,8}\r\n")


class SseCutter:
    """Cuts server-sent events: a record is an event's data, its lines joined by LF; the rest of an event is dropped."""

    __slots__ = ("_kept", "_return_held")

    def __init__(self) -> None:
        self._kept = bytearray()
        self._return_held = False

    def feed(self, data: bytes) -> list[bytes]:
        """The records that `data` completes. One event of one line per piece is what servers send; it has a short cut.

        Raises:
            UpstreamFailed: a record is larger than RECORD_LIMIT.
        """
        if (
            not self._kept
            and data.startswith(b"data: ")
            and data.endswith(b"\n\n")
            and data.find(b"\n") == len(data) - 2
            and b"\r" not in data
            and not self._return_held
        ):
            return [data[6:-2]]
        return self._cut(data)

    def end(self) -> list[bytes]:
        """The stream is over: the last record, if it came without its separator."""
        record = _event_data(bytes(self._kept).rstrip(b"\n"))
        self._kept.clear()
        return [record] if record else []

    def _cut(self, data: bytes) -> list[bytes]:
        if self._return_held or b"\r" in data:
            data = self._without_returns(data)
        if self._kept:
            searched = max(0, len(self._kept) - 1)  # the separator may have been cut in two
            self._kept += data
            if self._kept.find(b"\n\n", searched) < 0:
                return self._keep(b"")
            data = bytes(self._kept)
            self._kept.clear()
        *blocks, rest = data.split(b"\n\n")
        if rest:
            self._keep(rest)
        return [record for block in blocks if (record := _event_data(block))]

    def _keep(self, rest: bytes) -> list[bytes]:
        self._kept += rest
        if len(self._kept) > RECORD_LIMIT:
            raise UpstreamFailed(f"a record of the answer is larger than {RECORD_LIMIT} bytes")
        return []

    def _without_returns(self, data: bytes) -> bytes:
        """`data` with CRLF made LF. A final CR waits for the next piece, since its LF may be there."""
        if self._return_held:
            data = b"\r" + data
        self._return_held = data.endswith(b"\r")
        return data.removesuffix(b"\r").replace(b"\r\n", b"\n")


def _event_data(block: bytes) -> bytes:
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    data = (line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:"))
    return b"\n".join(data)


def sse(data: bytes, event: str = "") -> bytes:
    """One server-sent event. `data` holds no line break (JSON as msgspec writes it never does)."""
    head = f"event: {event}\ndata: ".encode() if event else b"data: "
    return head + data + b"\n\n"


def chunk(data: bytes) -> bytes:
    """One HTTP/1.1 chunk. Empty `data` gives nothing: a chunk of length 0 would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_object(tail: bytes, key: bytes) -> bytes:
    """The JSON object that follows the last `key` (with its quotes) in `tail`; empty where there is no complete one.

    `tail` is the end of an answer as it came: a stream or a whole body, begun anywhere, HTTP chunk lines included. Text
    inside JSON strings cannot be mistaken for `key`: there its quotes are escaped. Only braces are looked at.
    """
    at = tail.rfind(key)
    if at < 0:
        return b""
    at += len(key)
    start = tail.find(b"{", at, at + 8)  # `: {`, or `: null,` and then this is not it
    if start < 0:
        return b""
    end = start
    for _ in range(OBJECT_DEPTH):
        end = tail.find(b"}", end, start + OBJECT_LIMIT) + 1
        if not end:
            return b""
        if tail.count(b"{", start, end) == tail.count(b"}", start, end):
            return unchunked(tail[start:end])
    return b""


def unchunked(data: bytes) -> bytes:
    """`data` without the chunk lines that fell into it (RFC 9112 §7.1); JSON has no CRLF inside its strings."""
    return _CHUNK_LINE.sub(b"", data) if b"\r\n" in data else data
