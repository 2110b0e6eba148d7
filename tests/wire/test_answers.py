"""What `wire.answers` promises. Samples are llama.cpp's; the official client's types judge what comes out."""

from typing import Any

import msgspec
import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.errors import UpstreamFailed
from llm_router.wire.dialects import OLLAMA, OPERATIONS
from llm_router.wire.stream import sse
from llm_router.wire.translate import Translation, translate

ENVELOPE = b'"created":1795230217,"id":"chatcmpl-WY79","model":"tiny","system_fingerprint":"b0-unknown",'
ROLE = b'{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],' + ENVELOPE
USAGE = (
    b'"usage":{"completion_tokens":3,"prompt_tokens":22,"total_tokens":25,"prompt_tokens_details":{"cached_tokens":0}}'
)
TIMINGS = b'"timings":{"cache_n":1,"prompt_n":21,"prompt_ms":1.721,"predicted_n":3,"predicted_ms":0.952}'
TALLY = b'{"choices":[],' + ENVELOPE + USAGE + b"," + TIMINGS + b"}"
DONE = b"data: [DONE]\n\n"


def piece(text: str) -> bytes:
    return delta({"content": text})


def delta(said: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"finish_reason": finish, "index": 0, "delta": said}
    return sse(msgspec.json.encode({"choices": [choice], "object": "chat.completion.chunk"}))


ANSWER = (
    sse(ROLE + b'"object":"chat.completion.chunk"}')
    + piece(" This")
    + piece(" \u00fcber")
    + delta({}, "length")
    + sse(TALLY)
    + DONE
)
WHOLE = (
    b'{"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","content":" This tiny model",'
    b'"reasoning_content":"hm"}}],' + ENVELOPE + USAGE + b"," + TIMINGS + b"}"
)


def chat(**fields: object) -> Translation:
    return asked(b"/api/chat", messages=[{"role": "user", "content": "hi"}], **fields)


def asked(path: bytes, **fields: object) -> Translation:
    return translate(OPERATIONS[path], msgspec.json.encode({"model": "mine"} | fields), model="theirs", now=100.0)


def records(translation: Translation, answer: bytes, now: float = 102.0) -> list[dict[str, Any]]:
    out = translation.feed(answer, now) + translation.end(now)
    assert out.endswith(b"\n")
    return [msgspec.json.decode(line) for line in out.splitlines()]


def test_every_event_becomes_a_record_at_once() -> None:
    """B2: tokens are passed on as they come; the first event, which says only the role, gives nothing."""
    translation = chat()
    assert translation.feed(sse(ROLE + b'"object":""}'), 101.0) == b""
    record = msgspec.json.decode(translation.feed(piece(" This"), 101.5))
    assert record == {
        "model": "mine",
        "created_at": "1970-01-01T00:01:41.500000Z",
        "message": {"role": "assistant", "content": " This"},
        "done": False,
    }


def test_the_final_record_counts() -> None:
    """`done: true`, why, and llama.cpp's own counts and times in nanoseconds; the client's type takes every record."""
    found = [ollama.ChatResponse.model_validate(r) for r in records(chat(), ANSWER)]
    assert [r.message.content for r in found] == [" This", " \u00fcber", ""]
    last = found[-1]
    assert (last.done, last.done_reason) == (True, "length")
    assert (last.prompt_eval_count, last.eval_count) == (22, 3)
    assert (last.prompt_eval_duration, last.eval_duration) == (1_721_000, 952_000)
    assert (last.total_duration, last.load_duration) == (2_000_000_000, 0)


def test_our_own_dialect_reads_the_counts() -> None:
    """What is written here is what `Ollama.usage` finds: the tally of a translated answer is complete."""
    translation = chat()
    usage = OLLAMA.usage(translation.feed(ANSWER, 101.0))
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (22, 3)


def test_times_are_measured_where_the_runtime_tells_none() -> None:
    """Other servers have no timings: until the first token is prompt, the rest is answer."""
    translation = chat()
    translation.feed(piece("a"), 101.5)
    translation.feed(delta({}, "stop"), 103.0)
    last = msgspec.json.decode(translation.feed(DONE, 104.0))
    assert (last["prompt_eval_duration"], last["eval_duration"]) == (1_500_000_000, 2_500_000_000)
    assert (last["prompt_eval_count"], last["eval_count"]) == (0, 0)


def test_a_clock_that_is_set_back_gives_no_negative_times() -> None:
    """Durations are never below zero, even when the wall clock jumps."""
    last = records(chat(), piece("a") + delta({}, "stop") + DONE, now=50.0)[-1]
    assert (last["total_duration"], last["eval_duration"], last["prompt_eval_duration"]) == (0, 0, 0)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_stays_apart_from_the_answer(field: str) -> None:
    """llama.cpp and vLLM name it differently; Ollama calls it `thinking`."""
    found = records(chat(), delta({field: "hm"}) + piece("so") + delta({}, "stop") + DONE)
    assert found[0]["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert found[1]["message"] == {"role": "assistant", "content": "so"}


def test_tool_calls_are_sent_whole() -> None:
    """Arguments that come in pieces leave as one object, in one record before the last; `done_reason` is stop."""
    pieces = [
        {"index": 0, "id": "x", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city": "Pa'}},
        {"index": 0, "function": {"arguments": 'ris"}'}},
        {"index": 1, "id": "y", "function": {"name": "now"}},
    ]
    answer = b"".join(delta({"tool_calls": [p]}) for p in pieces) + delta({}, "tool_calls") + DONE
    calls, last = (ollama.ChatResponse.model_validate(r) for r in records(chat(), answer))
    assert not calls.done
    assert [(c.function.name, c.function.arguments) for c in calls.message.tool_calls or []] == [
        ("weather", {"city": "Paris"}),
        ("now", {}),
    ]
    assert (last.done, last.done_reason, last.message.tool_calls) == (True, "stop", None)


def test_half_a_tool_call_is_left_out_when_the_limit_cut_it() -> None:
    """`done_reason: length` says why there is none; half the arguments would be of no use to anybody."""
    half = delta({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": '{"a'}}]})
    (last,) = records(chat(), half + delta({}, "length") + DONE)
    assert (last["done_reason"], last["message"]) == ("length", {"role": "assistant", "content": ""})


def test_tool_arguments_that_are_no_object_are_the_runtimes_failure() -> None:
    """Ollama's arguments are an object; a client must not get anything else."""
    wrong = delta({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "[1]"}}]}, "tool_calls")
    with pytest.raises(UpstreamFailed, match="not a JSON object"):
        chat().feed(wrong + DONE, 101.0)


def test_an_error_in_the_stream_ends_it() -> None:
    """B5: the runtime's error becomes Ollama's, and nothing follows it."""
    answer = piece("a") + sse(b'{"error":{"code":500,"message":"out of memory","type":"server_error"}}') + piece("b")
    found = records(chat(), answer + DONE)
    assert found[1:] == [{"error": "out of memory"}]


@pytest.mark.parametrize("answer", [b"", piece("a"), piece("a") + b'data: {"choi'])
def test_an_answer_that_breaks_off_is_not_ended_as_done(answer: bytes) -> None:
    """B5: without an end from the runtime there is none for the client."""
    translation = chat()
    assert b'"done":true' not in translation.feed(answer, 101.0)
    with pytest.raises(UpstreamFailed):
        translation.end(102.0)


def test_an_answer_that_finished_needs_no_done_mark() -> None:
    """Some servers close after `finish_reason`; that is an end."""
    assert records(chat(), piece("a") + delta({}, "stop"))[-1]["done_reason"] == "stop"


def test_what_is_not_openais_is_the_runtimes_failure() -> None:
    """A record that cannot be read, and a whole answer without choices."""
    with pytest.raises(UpstreamFailed, match="cannot be read"):
        chat().feed(sse(b"<html>"), 101.0)
    for body, why in ((b"<html>", "cannot be read"), (b'{"object":"x"}', "no choices"), (b'{"error":"full"}', "full")):
        translation = chat(stream=False)
        translation.feed(body, 101.0)
        with pytest.raises(UpstreamFailed, match=why):
            translation.end(102.0)


def test_a_whole_chat_is_one_object() -> None:
    """Nothing until the end; then text, thinking and counts together."""
    translation = chat(stream=False)
    assert translation.feed(WHOLE[:100], 101.0) + translation.feed(WHOLE[100:], 101.5) == b""
    answer = ollama.ChatResponse.model_validate_json(translation.end(102.0))
    assert (answer.model, answer.done, answer.done_reason) == ("mine", True, "length")
    assert (answer.message.content, answer.message.thinking) == (" This tiny model", "hm")
    assert (answer.prompt_eval_count, answer.eval_count, answer.eval_duration) == (22, 3, 952_000)


def test_a_whole_chat_has_its_tool_calls() -> None:
    """A whole answer's calls have no index; each is one of its own."""
    calls = [{"id": i, "type": "function", "function": {"name": i, "arguments": '{"n":1}'}} for i in ("a", "b")]
    choice = {"finish_reason": "tool_calls", "message": {"role": "assistant", "content": None, "tool_calls": calls}}
    translation = chat(stream=False)
    translation.feed(msgspec.json.encode({"choices": [choice]}), 101.0)
    answer = ollama.ChatResponse.model_validate_json(translation.end(102.0))
    assert [(c.function.name, c.function.arguments) for c in answer.message.tool_calls or []] == [
        ("a", {"n": 1}),
        ("b", {"n": 1}),
    ]
    assert answer.done_reason == "stop"


def test_generate_answers_in_response() -> None:
    """The same answer in the other route's shape, thinking included."""
    translation = asked(b"/api/generate", prompt="hi")
    answer = delta({"reasoning_content": "hm"}) + ANSWER
    found = [ollama.GenerateResponse.model_validate(r) for r in records(translation, answer)]
    assert [(r.thinking, r.response) for r in found] == [("hm", ""), (None, " This"), (None, " \u00fcber"), (None, "")]
    assert (found[-1].done, found[-1].eval_count) == (True, 3)


def test_a_raw_completion_answers_in_response() -> None:
    """`/v1/completions` has its text elsewhere, and its counts in the last event with a choice."""
    translation = asked(b"/api/generate", prompt="hi", raw=True)
    text = sse(b'{"choices":[{"text":" This","index":0,"logprobs":null,"finish_reason":null}],"object":"x"}')
    end = sse(b'{"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],' + USAGE + b"}")
    found = records(translation, text + end + DONE)
    assert [r["response"] for r in found] == [" This", ""]
    assert found[-1]["prompt_eval_count"] == 22


def test_logprobs_come_along() -> None:
    """Token, logprob, bytes and the alternatives; llama.cpp's token ids are not Ollama's."""
    one = {"id": 261, "token": "a", "bytes": [97], "logprob": -0.5}
    logprobs = {"content": [one | {"top_logprobs": [one]}]}
    choice = {"finish_reason": None, "index": 0, "delta": {"content": "a"}, "logprobs": logprobs}
    record = msgspec.json.decode(chat(logprobs=True).feed(sse(msgspec.json.encode({"choices": [choice]})), 101.0))
    kept = {"token": "a", "logprob": -0.5, "bytes": [97]}
    assert record["logprobs"] == [kept | {"top_logprobs": [kept]}]


VECTORS = b'{"data":[{"embedding":[3e-5,4],"index":1},{"embedding":[0.10,2],"index":0}],"usage":{"prompt_tokens":6}}'


def test_embeddings_are_passed_on_in_order() -> None:
    """The numbers as the runtime wrote them, in the order of the texts, with the prompt's count."""
    translation = asked(b"/api/embed", input=["a", "b"])
    assert translation.feed(VECTORS, 101.0) == b""
    assert translation.end(102.0) == (
        b'{"model":"mine","embeddings":[[0.10,2],[3e-5,4]],"total_duration":2000000000,"load_duration":0,'
        b'"prompt_eval_count":6}'
    )


def test_the_older_route_answers_one_embedding() -> None:
    """`/api/embeddings`."""
    translation = asked(b"/api/embeddings", prompt="a")
    translation.feed(VECTORS, 101.0)
    assert translation.end(102.0) == b'{"embedding":[0.10,2]}'


def test_no_embeddings_is_the_runtimes_failure() -> None:
    """An answer without data is not an answer."""
    translation = asked(b"/api/embed", input="a")
    translation.feed(b'{"data":[]}', 101.0)
    with pytest.raises(UpstreamFailed, match="no embeddings"):
        translation.end(102.0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"code":400,"message":"too long","type":"invalid_request_error"}}', "too long"),
        (b'{"object":"error","message":"too long","code":400}', "too long"),
        (b'{"error":"too long"}', "too long"),
        (b'{"detail":"too long"}', "too long"),
        (b"<h1>Bad Gateway</h1>\n", "<h1>Bad Gateway</h1>"),
        (b"\xff", "\ufffd"),
        (b"{}", "the runtime answered with status 418"),
        (b"", "the runtime answered with status 418"),
    ],
)
def test_a_runtimes_error_keeps_its_message(body: bytes, message: str) -> None:
    """llama.cpp's, vLLM's, Ollama's and FastAPI's shapes, and what is none."""
    assert msgspec.json.decode(chat().error(418, body)) == {"error": message}


SAMPLES = [
    ANSWER,
    delta({"reasoning": "hm"})
    + delta({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": '{"a"'}}]})
    + b": ping\n\n"
    + delta({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}, "tool_calls").replace(b"\n", b"\r\n")
    + DONE,
    piece("a") + sse(b'{"error":{"message":"full"}}'),
]


@given(st.sampled_from(SAMPLES), st.lists(st.integers(min_value=1, max_value=200)))
def test_where_the_bytes_were_cut_makes_no_difference(answer: bytes, sizes: list[int]) -> None:
    """However the socket delivers the answer, the client gets the same bytes."""
    in_one, in_pieces = chat(), chat()
    whole = in_one.feed(answer, 101.0) + in_one.end(101.0)
    out = b""
    for size in sizes:
        out += in_pieces.feed(answer[:size], 101.0)
        answer = answer[size:]
    assert out + in_pieces.feed(answer, 101.0) + in_pieces.end(101.0) == whole
