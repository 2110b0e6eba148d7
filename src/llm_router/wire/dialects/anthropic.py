"""The Anthropic API: /v1/messages, server-sent events with names.

Sources: Anthropic's API reference, "Errors" (types by status, and `event: error` in a stream), "Streaming messages"
(`message_start` counts the prompt, `message_delta` the answer), "Prompt caching" (what `input_tokens` leaves out).
"""

from collections.abc import Mapping

import msgspec

from llm_router.errors import RouterError
from llm_router.wire.dialects.base import Count, Dialect, Operation, Usage
from llm_router.wire.stream import last_object, sse

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",  # Anthropic's own status for it is 529
    504: "timeout_error",
}
_USAGE_KEY = b'"usage"'


class Anthropic(Dialect):
    """`/v1/messages`."""

    name = "anthropic"
    stream_type = "text/event-stream"
    error_mark = b"event: error\n"

    @property
    def operations(self) -> Mapping[bytes, Operation]:
        """Path -> operation."""
        return _OPERATIONS

    def error(self, error: RouterError) -> bytes:
        """`{"type": "error", "error": {"type", "message"}}`."""
        return _ENCODER.encode(_ErrorBody("error", _ErrorDetail(error_type(error.status), error.message)))

    def broken(self, error: RouterError, *, mid_record: bool) -> bytes:
        """An `error` event. A cut event is not ended but turned into this one, because the last `event:` line counts.

        Ended by itself it would be an event with half a JSON text, on which the official client dies at once.
        """
        return (b"\n" if mid_record else b"") + sse(self.error(error), "error")

    def usage(self, tail: bytes) -> Usage | None:
        """The counts of a whole message, or of a stream's `message_delta`; the prompt's may be in `message_start` only.

        Where a long stream's tail does not reach back to `message_start`, the prompt counts as 0.
        """
        last = _counts(tail)
        if last is None:
            return None
        prompt = last if last.input_tokens is not None else _counts(tail[: tail.rfind(_USAGE_KEY)]) or last
        cached = (prompt.cache_read_input_tokens or 0) + (prompt.cache_creation_input_tokens or 0)
        return Usage(prompt_tokens=(prompt.input_tokens or 0) + cached, completion_tokens=last.output_tokens or 0)


class _ErrorDetail(msgspec.Struct, gc=False):
    type: str
    message: str


class _ErrorBody(msgspec.Struct, gc=False):
    type: str
    error: _ErrorDetail


class _Counts(msgspec.Struct, gc=False):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None


def error_type(status: int) -> str:
    """What Anthropic calls an error of this status: any other 4xx is the request's fault, any other 5xx the API's."""
    return _ERROR_TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")


def _counts(tail: bytes) -> _Counts | None:
    try:
        return _COUNTS.decode(last_object(tail, _USAGE_KEY))
    except msgspec.DecodeError:  # not there, or not what it is called
        return None


ANTHROPIC = Anthropic()
_OPERATIONS: Mapping[bytes, Operation] = {
    b"/v1/messages": Operation(ANTHROPIC, "anthropic.messages", streams=False),
}
_ENCODER = msgspec.json.Encoder()
_COUNTS = msgspec.json.Decoder(_Counts)
