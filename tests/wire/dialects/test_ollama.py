"""What the Ollama dialect promises. The client's own types judge the lists."""

from datetime import UTC, datetime

import msgspec
import ollama as client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.contract import ModelEntry
from llm_router.errors import ModelNotFound, UpstreamFailed
from llm_router.wire.dialects import OLLAMA, OPERATIONS, dialect_of
from llm_router.wire.dialects.base import Usage
from llm_router.wire.dialects.ollama import moment, ps, ps_model, tags
from llm_router.wire.stream import chunk

FINAL = (
    b'{"model":"llama3.2","created_at":"2026-08-04T19:22:45.499127Z","message":{"role":"assistant","content":""},'
    b'"done":true,"done_reason":"stop","total_duration":4883583458,"load_duration":1334875,"prompt_eval_count":26,'
    b'"prompt_eval_duration":342546000,"eval_count":282,"eval_duration":4535599000}\n'
)
COUNTS = Usage(
    prompt_tokens=26,
    completion_tokens=282,
    evaluated=26,
    prompt_seconds=0.342546,
    completion_seconds=4.535599,
    load_seconds=0.001334875,
)


@pytest.mark.parametrize(
    ("path", "streams"),
    [(b"/api/chat", True), (b"/api/generate", True), (b"/api/embed", None), (b"/api/embeddings", None)],
)
def test_generation_streams_unless_told_otherwise(path: bytes, streams: bool | None) -> None:  # noqa: FBT001 - a parameter
    """B2: `/api/*` streams by default; embeddings never do."""
    operation = OPERATIONS[path]
    assert operation.dialect is OLLAMA
    assert operation.streams is streams


def test_everything_under_api_gets_ollamas_errors() -> None:
    """B3: the error shape is the API's, for paths that do not exist as well."""
    assert dialect_of(b"/api/pull") is OLLAMA


def test_an_error_is_a_text() -> None:
    """B3: `{"error": "text"}`."""
    assert OLLAMA.error(ModelNotFound('model "x" not found')) == b'{"error":"model \\"x\\" not found"}'


@pytest.mark.parametrize("cut", [b"", b'{"model":"m","mess'])
def test_a_broken_stream_ends_with_an_error_record(cut: bytes) -> None:
    """B5: the last line is an error, also when the node died in the middle of one."""
    ending = OLLAMA.broken(UpstreamFailed("node gone"), mid_record=bool(cut))
    assert (b'{"done":false}\n' + cut + ending).splitlines()[-1] == b'{"error":"node gone"}'


def test_a_sign_of_life_is_a_record_that_says_nothing() -> None:
    """B2: the official client takes it, and nothing is added to the text; the time is that of the sign."""
    chat = OLLAMA.sign_of_life(OPERATIONS[b"/api/chat"], "m:1b", 1.5)
    generate = OLLAMA.sign_of_life(OPERATIONS[b"/api/generate"], "m:1b", 1.5)
    assert (chat.count(b"\n"), chat[-1:], generate.count(b"\n"), generate[-1:]) == (1, b"\n", 1, b"\n")
    said = client.ChatResponse.model_validate_json(chat)
    assert (said.model, said.message.role, said.message.content, said.done) == ("m:1b", "assistant", "", False)
    assert datetime.fromisoformat(said.created_at or "") == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)
    told = client.GenerateResponse.model_validate_json(generate)
    assert (told.model, told.response, told.done, told.created_at) == ("m:1b", "", False, said.created_at)


@pytest.mark.parametrize(
    "tail",
    [
        FINAL,
        chunk(b'{"done":false}\n') + chunk(FINAL) + b"0\r\n\r\n",
        b'ext that "total_duration":1} was cut' + FINAL,
        FINAL.replace(b":26,", b":2\r\n5f\r\n6,"),
    ],
)
def test_counts_come_from_the_last_record(tail: bytes) -> None:
    """Whole or streamed, framed or not, from the middle of an answer on; durations are told in seconds."""
    assert OLLAMA.usage(tail) == COUNTS


def test_embeddings_count_their_prompt() -> None:
    """`/api/embed` has no completion."""
    body = b'{"model":"m","embeddings":[[0.1]],"total_duration":14143917,"load_duration":1019500,"prompt_eval_count":8}'
    assert OLLAMA.usage(body) == Usage(prompt_tokens=8, evaluated=8, load_seconds=0.0010195)


@pytest.mark.parametrize(
    "tail", [b"", b"{}", b'{"error":"x"}', b'"total_duration":1,"eval_count":"x"}', b'"total_duration":1']
)
def test_no_counts_is_none(tail: bytes) -> None:
    """An answer without counts, or with what cannot be one."""
    assert OLLAMA.usage(tail) is None


@given(st.binary(), st.binary())
def test_no_bytes_upset_the_count(before: bytes, after: bytes) -> None:
    """Whatever an upstream sends, counting raises nothing."""
    OLLAMA.usage(before + b'"total_duration":' + after + b"}")


def test_lists_are_as_the_client_expects() -> None:
    """`/api/tags` and `/api/ps` parse, with every field that `ollama list` and `ollama ps` print."""
    models = [ModelEntry("llama3.2:1b", size=5), ModelEntry("tiny")]
    at = "2026-11-21T03:16:24.368639Z"
    listed = client.ListResponse.model_validate_json(msgspec.json.encode(tags(models, at))).models
    assert [(m.model, m.size) for m in listed] == [("llama3.2:1b", 5), ("tiny", 0)]
    assert listed[0].modified_at == datetime(2026, 11, 21, 3, 16, 24, 368639, UTC)
    assert len(listed[0].digest or "") == 64
    assert listed[0].digest != listed[1].digest
    running = client.ProcessResponse.model_validate_json(
        msgspec.json.encode(ps(ps_model(m, at) for m in models))
    ).models
    assert [m.name for m in running] == ["llama3.2:1b", "tiny"]
    assert running[0].expires_at == listed[0].modified_at


def test_lists_are_in_order() -> None:
    """The newest first, and what stays longest in memory, each once. A time that is none is long ago."""
    at = "2026-11-21T03:16:24Z"
    old, odd = ModelEntry("old", modified="2025-01-01T00:00:00+09:00"), ModelEntry("odd", modified="soon")
    assert [model.name for model in tags([old, odd, ModelEntry("new")], at).models] == ["new", "old", "odd"]
    soon, late = ps_model(ModelEntry("a"), at), ps_model(ModelEntry("a", size=5), "2026-11-21T03:16:24.5-01:00")
    assert ps([soon, late, ps_model(ModelEntry("b"), at)]).models == [late, ps_model(ModelEntry("b"), at)]
    assert moment("9999-12-31T23:59:59-23:59") >= 0
