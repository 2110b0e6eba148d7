"""Takes a chunked body apart (RFC 9112 §7.1), strictly. For requests: what comes from outside is trusted least.

A chunk is `size[;extension]CRLF data CRLF`; one of size 0 ends the body, trailers may follow it and are dropped.
"""

import re

LINE_LIMIT = 256  # bytes of a chunk's first line: eight digits, and extensions that nobody uses
TRAILERS_LIMIT = 8 * 1024  # bytes; nobody sends any

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[\t ]*+;[\t -~\x80-\xff]*+)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+")


class ChunkError(ValueError):
    """The framing is broken; the text says how."""


class ChunkDecoder:
    """Fed with a body's bytes; gives back the data in them. `complete` turns True with the end of the last chunk."""

    __slots__ = ("_left", "_line", "_trailers", "complete")

    def __init__(self) -> None:
        self._left = 0  # bytes of the present chunk that are still to come, the CRLF after it included
        self._line = b""  # the beginning of a line, whose end has not come
        self._trailers = -1  # bytes of trailers so far; -1: not there yet
        self.complete = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The data in these bytes, and what follows the end of the body.

        Raises:
            ChunkError: this is no chunk.
        """
        found: list[bytes] = []
        at = 0
        while at < len(data) and not self.complete:
            at = self._take(data, at, found) if self._left else self._read_line(data, at)
        return found, data[at:]

    def _take(self, data: bytes, at: int, found: list[bytes]) -> int:
        """Data of the chunk, and then its CRLF, one byte of which may come alone."""
        if self._left > 2:
            piece = data[at : at + self._left - 2]
            found.append(piece)
            self._left -= len(piece)
            at += len(piece)
        while at < len(data) and 0 < self._left <= 2:
            if data[at] != b"\n\r"[self._left - 1]:
                raise ChunkError("a chunk is longer than it says")
            self._left -= 1
            at += 1
        return at

    def _read_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        line = self._line + (data[at:] if end < 0 else data[at : end + 1])
        if len(line) > LINE_LIMIT:
            raise ChunkError(f"a line of chunked framing is over {LINE_LIMIT} bytes")
        if end < 0:
            self._line = line
            return len(data)
        if not line.endswith(b"\r\n"):
            raise ChunkError("a line feed without its carriage return")
        self._line = b""
        self._use(line[:-2])
        return end + 1

    def _use(self, line: bytes) -> None:
        if self._trailers < 0:
            self._begin(line)
        elif not line:
            self.complete = True
        else:
            self._trailers += len(line)
            if self._trailers > TRAILERS_LIMIT or not _TRAILER.fullmatch(line):
                raise ChunkError("what follows the last chunk is no trailer, or too much")

    def _begin(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise ChunkError("the size of a chunk is not one to eight hexadecimal digits")
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailers = 0
