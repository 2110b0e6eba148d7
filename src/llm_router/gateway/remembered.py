"""Requests whose prompts and answers are kept (`--log-bodies`). Where they are not, nothing of this is in use.

An answer is kept as the node sent it, without its framing: the records of a stream, or one JSON text.
"""

from llm_router.core.usage import Outcome
from llm_router.gateway.inference import Inference
from llm_router.wire.chunked import ChunkDecoder, ChunkError
from llm_router.wire.http1 import CHUNKED, DecodedResponseReader, ResponseReader

LIMIT = 64 * 1024  # bytes of each: a long conversation, without the pictures in it
FRAMED = 2 * LIMIT  # bytes that hold as many without their framing: a chunk of one token is mostly its own


class Remembered(Inference, kw_only=True):
    """As its parent; what was said is told to `DataPlane.bodies` when it is over."""

    _kept: list[bytes] = []  # noqa: RUF012 - msgspec gives each its own
    _size: int = 0
    _of: ResponseReader | None = None  # whose answer that is: another node's begins anew

    def _keep(self, data: bytes) -> None:
        self._add(data)
        super()._keep(data)

    def _pass_whole(self, reader: ResponseReader, body: bytes) -> None:
        self._add(body)
        super()._pass_whole(reader, body)

    def _add(self, data: bytes) -> None:
        if self._of is not self._reader:
            self._of, self._kept, self._size = self._reader, [], 0
        if self._size < FRAMED:
            self._kept.append(data[: FRAMED - self._size])
            self._size += len(data)

    def _settle(self, outcome: Outcome, status: int) -> None:
        super()._settle(outcome, status)
        said = _unframed(self._reader, b"".join(self._kept))
        if self._plane.bodies is not None:
            self._plane.bodies(self.id.decode("latin-1"), self._request.body[:LIMIT], said[:LIMIT])


def _unframed(reader: ResponseReader, body: bytes) -> bytes:
    if reader.framing is not CHUNKED or isinstance(reader, DecodedResponseReader):
        return body
    try:
        found, _ = ChunkDecoder().feed(body)
    except ChunkError:  # a node's own framing, which it was let through with: better than nothing
        return body
    return b"".join(found)
