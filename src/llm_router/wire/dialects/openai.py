"""The OpenAI API: paths under /v1, server-sent events.

Sources: OpenAI's API reference (`usage`, `stream_options.include_usage`, error objects, the Responses API's
`input_tokens`); llama.cpp `tools/server/README.md` (`timings`, which it adds to the last record).
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from llm_router.contract import ModelEntry
from llm_router.errors import RouterError
from llm_router.wire.dialects.base import Count, Dialect, Operation, Usage
from llm_router.wire.stream import last_object, sse

MILLISECONDS = 1e3  # in a second: the unit of llama.cpp's timings


class OpenAI(Dialect):
    """`/v1/*`, and the shape of everything that is nobody else's."""

    name = "openai"
    stream_type = "text/event-stream"
    error_mark = b'data: {"error":'

    @property
    def operations(self) -> Mapping[bytes, Operation]:
        """Path -> operation."""
        return _OPERATIONS

    def error(self, error: RouterError) -> bytes:
        """`{"error": {"message", "type", "param": null, "code"}}`."""
        return _ENCODER.encode(_ErrorBody(_ErrorDetail(error.message, error.kind, error.code)))

    def broken(self, error: RouterError, *, mid_record: bool) -> bytes:
        """An event whose data is the error object: the official client raises it as APIError."""
        return (b"\n\n" if mid_record else b"") + sse(self.error(error))

    def usage(self, tail: bytes) -> Usage | None:
        """The counts of the last `usage`, and llama.cpp's `timings`, which come even where no usage was asked for."""
        found = _whole(tail) if tail.startswith(b"{") else None
        if found is None:  # a stream, or the end of something long
            found = _Answer(_object(_USAGE, tail, b'"usage"'), _object(_TIMINGS, tail, b'"timings"'))
        usage, timings = found.usage, found.timings
        if timings is not None:
            return _timed(usage or _Usage(), timings)
        if usage is None:
            return None
        return Usage(
            usage.prompt_tokens or usage.input_tokens or 0, usage.completion_tokens or usage.output_tokens or 0
        )


class _ErrorDetail(msgspec.Struct, gc=False):
    message: str
    type: str
    code: str
    param: None = None


class _ErrorBody(msgspec.Struct, gc=False):
    error: _ErrorDetail


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None


class _Timings(msgspec.Struct, gc=False):
    prompt_n: Count = 0
    cache_n: Count = 0
    predicted_n: Count = 0
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class _Answer(msgspec.Struct, gc=False):
    usage: _Usage | None = None
    timings: _Timings | None = None


class ModelList(msgspec.Struct, frozen=True):
    """The answer of `GET /v1/models`."""

    data: list[ModelEntry]
    object: str = "list"


def model(entry: ModelEntry, created: int = 0) -> ModelEntry:
    """One model as `GET /v1/models/{id}` answers it. `created`: seconds since the epoch, where the entry has none."""
    return entry if entry.created else msgspec.structs.replace(entry, created=created)


def model_list(entries: Iterable[ModelEntry], created: int = 0) -> ModelList:
    """The list of models as `GET /v1/models` answers it."""
    return ModelList([model(entry, created) for entry in entries])


def _timed(usage: _Usage, timings: _Timings) -> Usage:
    return Usage(
        prompt_tokens=usage.prompt_tokens or usage.input_tokens or timings.prompt_n + timings.cache_n,
        completion_tokens=usage.completion_tokens or usage.output_tokens or timings.predicted_n,
        evaluated=timings.prompt_n,
        prompt_seconds=timings.prompt_ms / MILLISECONDS,
        completion_seconds=timings.predicted_ms / MILLISECONDS,
    )


def _whole(tail: bytes) -> _Answer | None:
    """An answer in one piece is read as what it is."""
    try:
        return _ANSWER.decode(tail)
    except (msgspec.DecodeError, UnicodeDecodeError):  # its beginning only, or its end
        return None


_T = TypeVar("_T")


def _object(decoder: msgspec.json.Decoder[_T], tail: bytes, key: bytes) -> _T | None:
    found = last_object(tail, key)
    if not found:
        return None
    try:
        return decoder.decode(found)
    except msgspec.DecodeError:  # not what it is called
        return None


OPENAI = OpenAI()
_OPERATIONS: Mapping[bytes, Operation] = {
    b"/v1/chat/completions": Operation(OPENAI, "openai.chat", streams=False),
    b"/v1/completions": Operation(OPENAI, "openai.completions", streams=False),
    b"/v1/embeddings": Operation(OPENAI, "openai.embeddings", streams=None),
    b"/v1/responses": Operation(OPENAI, "openai.responses", streams=False),
}
_ENCODER = msgspec.json.Encoder()
_USAGE = msgspec.json.Decoder(_Usage)
_TIMINGS = msgspec.json.Decoder(_Timings)
_ANSWER = msgspec.json.Decoder(_Answer)
