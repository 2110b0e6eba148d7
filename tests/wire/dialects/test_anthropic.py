"""What the Anthropic dialect promises. Samples are what llama.cpp's server and Anthropic's own API send."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.errors import (
    BadRequest,
    BodyTooLarge,
    HeadTooLarge,
    ModelNotFound,
    NoNodes,
    RouterError,
    UpstreamFailed,
    UpstreamTimeout,
    WrongSecret,
)
from llm_router.wire.dialects import ANTHROPIC, OPERATIONS, dialect_of
from llm_router.wire.dialects.anthropic import error_type
from llm_router.wire.dialects.base import Usage
from llm_router.wire.stream import SseCutter, chunk

START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"x","content":[],'
    b'"usage":{"cache_read_input_tokens":21,"input_tokens":1,"output_tokens":0}}}\n\n'
)
DELTA = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":3}}\n\n'
)
WHOLE_END = (
    b'},"usage":{"input_tokens":2095,"cache_creation_input_tokens":5,"cache_read_input_tokens":null,'
    b'"cache_creation":{"ephemeral_5m_input_tokens":5},"output_tokens":503}}'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def test_messages_stream_only_when_asked() -> None:
    """B2."""
    operation = OPERATIONS[b"/v1/messages"]
    assert operation.dialect is ANTHROPIC
    assert operation.streams is False


def test_everything_under_messages_gets_anthropics_errors() -> None:
    """B3: the error shape is the API's, for paths that do not exist as well."""
    assert dialect_of(b"/v1/messages/count_tokens") is ANTHROPIC


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("x"), "invalid_request_error"),
        (HeadTooLarge("x"), "invalid_request_error"),
        (WrongSecret("x"), "permission_error"),
        (ModelNotFound("x"), "not_found_error"),
        (BodyTooLarge("x"), "request_too_large"),
        (UpstreamFailed("x"), "api_error"),
        (NoNodes("x"), "overloaded_error"),
        (UpstreamTimeout("x"), "timeout_error"),
    ],
)
def test_an_error_has_anthropics_type(error: RouterError, kind: str) -> None:
    """B3: the types that Anthropic documents for each status."""
    body = msgspec.json.decode(ANTHROPIC.error(error))
    assert body == {"type": "error", "error": {"type": kind, "message": "x"}}


def test_keys_and_limits_have_their_types() -> None:
    """Statuses that no error of ours has yet."""
    assert error_type(401) == "authentication_error"
    assert error_type(429) == "rate_limit_error"


def test_a_broken_stream_ends_with_an_error_event() -> None:
    """B5: between records, the error is an event of its own."""
    error = UpstreamFailed("node gone")
    assert ANTHROPIC.broken(error, mid_record=False) == b"event: error\ndata: " + ANTHROPIC.error(error) + b"\n\n"


@pytest.mark.parametrize("cut", [b"event: content_bl", b'event: content_block_delta\ndata: {"type":"conte'])
def test_a_cut_record_becomes_the_error(cut: bytes) -> None:
    """B5: the event that the node left unfinished is an `error` event in the end, with our error in its last line."""
    error = UpstreamFailed("node gone")
    event = cut + ANTHROPIC.broken(error, mid_record=True)
    lines = event.removesuffix(b"\n\n").split(b"\n")
    assert b"\n\n" not in event.removesuffix(b"\n\n")
    assert [line for line in lines if line.startswith(b"event:")][-1] == b"event: error"
    assert msgspec.json.decode(lines[-1].removeprefix(b"data: "))["error"]["message"] == "node gone"


def test_a_sign_of_life_is_no_event() -> None:
    """B2: a comment, which every reader of server-sent events skips."""
    sign = ANTHROPIC.sign_of_life(OPERATIONS[b"/v1/messages"], "m", 0.0)
    assert sign.startswith(b":")
    assert SseCutter().feed(sign + STOP) == [b'{"type":"message_stop"}']


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        (START + DELTA + STOP, Usage(prompt_tokens=22, completion_tokens=3)),
        (chunk(START) + chunk(DELTA) + chunk(STOP) + b"0\r\n\r\n", Usage(prompt_tokens=22, completion_tokens=3)),
        (START[-20:] + DELTA + STOP, Usage(prompt_tokens=0, completion_tokens=3)),
        (
            WHOLE_END,
            Usage(prompt_tokens=2100, completion_tokens=503),
        ),
    ],
    ids=["stream", "chunked", "tail of a stream", "whole"],
)
def test_counts_come_from_the_last_records(tail: bytes, usage: Usage) -> None:
    """What was read from or written to the cache counts as prompt; `message_start` is used where it is in sight."""
    assert ANTHROPIC.usage(tail) == usage


@pytest.mark.parametrize("tail", [b"", b"{}", b'"usage":null', b'"usage":{"input_tokens":"x"}', b'"usage":{"output'])
def test_no_counts_is_none(tail: bytes) -> None:
    """An answer without counts, or with what cannot be one."""
    assert ANTHROPIC.usage(tail) is None


@given(st.binary(), st.binary())
def test_no_bytes_upset_the_count(before: bytes, after: bytes) -> None:
    """Whatever an upstream sends, counting raises nothing."""
    ANTHROPIC.usage(before + b'"usage":{' + after + b"}")
