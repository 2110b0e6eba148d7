"""What the OpenAI dialect promises. Samples are what llama.cpp's server sends; its client's types judge the lists."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.pagination import SyncPage
from openai.types import Model

from llm_router.contract import ModelEntry
from llm_router.errors import ModelNotFound, UpstreamFailed
from llm_router.wire.dialects import OPENAI, OPERATIONS, dialect_of
from llm_router.wire.dialects.base import Usage
from llm_router.wire.dialects.openai import model, model_list
from llm_router.wire.stream import SseCutter, chunk

TIMINGS = (
    b'"timings":{"cache_n":21,"prompt_n":1,"prompt_ms":1.721,"prompt_per_token_ms":1.721,"predicted_n":3,'
    b'"predicted_ms":0.952,"predicted_per_second":2100.840336134454}'
)
USAGE = (
    b'"usage":{"completion_tokens":3,"prompt_tokens":22,"total_tokens":25,"prompt_tokens_details":{"cached_tokens":21}}'
)
RESPONSES_USAGE = (
    b'"usage":{"input_tokens":22,"output_tokens":3,"total_tokens":25,"input_tokens_details":{"cached_tokens":21}}'
)
DONE = b"data: [DONE]\n\n"
COUNTED = Usage(prompt_tokens=22, completion_tokens=3)
TIMED = Usage(
    prompt_tokens=22, completion_tokens=3, evaluated=1, prompt_seconds=1.721 / 1e3, completion_seconds=0.952 / 1e3
)


@pytest.mark.parametrize(
    ("path", "streams"),
    [
        (b"/v1/chat/completions", False),
        (b"/v1/completions", False),
        (b"/v1/responses", False),
        (b"/v1/embeddings", None),
    ],
)
def test_nothing_streams_unless_asked(path: bytes, streams: bool | None) -> None:  # noqa: FBT001 - a parameter
    """B2: `/v1/*` streams only with `stream: true`; embeddings never do."""
    operation = OPERATIONS[path]
    assert operation.dialect is OPENAI
    assert operation.streams is streams


@pytest.mark.parametrize("path", [b"/v1/models", b"/v0/nodes", b"/nowhere", b"/"])
def test_what_is_nobodys_gets_openais_errors(path: bytes) -> None:
    """B3: `/v0` has the same fields."""
    assert dialect_of(path) is OPENAI


def test_an_error_is_openais_object() -> None:
    """B3: message, type, param, code."""
    assert msgspec.json.decode(OPENAI.error(ModelNotFound("no model x"))) == {
        "error": {"message": "no model x", "type": "not_found_error", "param": None, "code": "model_not_found"}
    }


@pytest.mark.parametrize("cut", [b"", b'data: {"choices":[{"delta":{"cont'])
def test_a_broken_stream_ends_with_an_error_event(cut: bytes) -> None:
    """B5: the last event is an error, also when the node died in the middle of one."""
    error = UpstreamFailed("node gone")
    ending = OPENAI.broken(error, mid_record=bool(cut))
    assert SseCutter().feed(b"data: {}\n\n" + cut + ending)[-1] == OPENAI.error(error)


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/completions", b"/v1/responses"])
def test_a_sign_of_life_is_no_event(path: bytes) -> None:
    """B2: a comment, which every reader of server-sent events skips, before an event and alone."""
    sign = OPENAI.sign_of_life(OPERATIONS[path], "m", 0.0)
    assert sign.startswith(b":")
    assert SseCutter().feed(sign + sign + b"data: {}\n\n") == [b"{}"]
    assert OPENAI.usage(sign) is None


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        (b'data: {"choices":[],' + USAGE + b"," + TIMINGS + b"}\n\n" + DONE, TIMED),
        (chunk(b'data: {"choices":[],' + USAGE + b"}\n\n") + chunk(DONE) + b"0\r\n\r\n", COUNTED),
        (b'data: {"choices":[{"finish_reason":"stop"}],"usage":null,' + TIMINGS + b"}\n\n" + DONE, TIMED),
        (b' half a text"}}],"object":"chat.completion",' + USAGE + b',"id":"x",' + TIMINGS + b"}", TIMED),
        (b'{"usage": {"prompt_tokens": 6, "total_tokens": 6}, "data": []}', Usage(prompt_tokens=6)),
        (b'event: response.completed\ndata: {"response":{' + RESPONSES_USAGE + b"}," + TIMINGS + b"}\n\n", TIMED),
        (b'{"object":"response",' + RESPONSES_USAGE + b"}", COUNTED),
    ],
    ids=["stream", "chunked", "timings only", "whole", "embeddings", "responses stream", "responses whole"],
)
def test_counts_come_from_the_last_records(tail: bytes, usage: Usage) -> None:
    """Chat, completions, embeddings and responses; llama.cpp's timings where there are some."""
    assert OPENAI.usage(tail) == usage


@pytest.mark.parametrize("tail", [b"", b"{}", b'"usage":null', b'"usage":{"prompt_tokens":"x"}', b'"usage":{"prompt'])
def test_no_counts_is_none(tail: bytes) -> None:
    """An answer without counts, or with what cannot be one."""
    assert OPENAI.usage(tail) is None


@given(st.binary(), st.binary())
def test_no_bytes_upset_the_count(before: bytes, after: bytes) -> None:
    """Whatever an upstream sends, counting raises nothing."""
    OPENAI.usage(before + b'"usage":{' + after + b"}")


def test_lists_are_as_the_client_expects() -> None:
    """`/v1/models` and `/v1/models/{id}` parse in the official client."""
    page = SyncPage[Model].model_validate_json(
        msgspec.json.encode(model_list([ModelEntry("a"), ModelEntry("b")], created=7))
    )
    assert [m.id for m in page.data] == ["a", "b"]
    one = Model.model_validate_json(msgspec.json.encode(model(ModelEntry("a"), created=7)))
    assert (one.id, one.object, one.created, one.owned_by) == ("a", "model", 7, "llm-router")


@pytest.mark.parametrize("count", [b"-1", b"9007199254740993", b"18446744073709551616", b"1e300"])
def test_a_count_that_cannot_be_is_none(count: bytes) -> None:
    """What an upstream says of tokens ends in a database and in decisions."""
    body = b'{"choices":[],"usage":{"prompt_tokens":%b,"completion_tokens":3}}' % count
    assert OPENAI.usage(body) is None
    assert OPENAI.usage(b"data: " + body + b"\n\n" + DONE) is None
