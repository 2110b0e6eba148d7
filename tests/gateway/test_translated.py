"""Ollama's API in front of a runtime that speaks only OpenAI's: what the exchange adds to `wire.translate`."""

import msgspec
from tests.gateway.conftest import SSE_HEAD, House, answers, breaks_after, chunk, post, whole

OPENAI_ONLY = frozenset({"openai"})
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
LAST = (
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\ndata: [DONE]\n\n'
)
CHAT = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
CHAT_WHOLE = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":false}'


def lines(chunks: list[bytes]) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in b"".join(chunks).splitlines()]


async def test_a_stream_is_translated_record_by_record(house: House) -> None:
    """SSE comes in, NDJSON goes out, and the counts of the runtime's dialect are recorded."""
    upstream = await house.node(
        "one", answers(SSE_HEAD, chunk(DELTA), chunk(LAST) + b"0\r\n\r\n"), dialects=OPENAI_ONLY
    )
    client = await post(house, CHAT, "/api/chat")
    status, headers = await client.head()
    assert (status, headers["content-type"], headers["x-llm-router-node"]) == (200, "application/x-ndjson", "one")
    first, last = lines(await client.chunks())
    assert (first["done"], last["done"], last["eval_count"]) == (False, True, 1)
    record = await house.record()
    assert (record.operation, record.prompt_tokens, record.completion_tokens) == ("ollama.chat", 3, 1)
    assert upstream.connections == 1


async def test_a_whole_answer_is_translated(house: House) -> None:
    """One JSON object, of a known length."""
    body = b'{"choices":[{"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
    await house.node("one", answers(whole(body)), dialects=OPENAI_ONLY)
    client = await post(house, CHAT_WHOLE, "/api/chat")
    status, _, answer = await client.answer()
    assert status == 200
    assert msgspec.json.decode(answer)["message"]["content"] == "hi"


async def test_the_runtimes_error_is_translated(house: House) -> None:
    """Its status and its words, in Ollama's shape."""
    await house.node(
        "one", answers(whole(b'{"error":{"message":"too long"}}', b"400 Bad Request")), dialects=OPENAI_ONLY
    )
    client = await post(house, CHAT, "/api/chat")
    status, _, answer = await client.answer()
    assert (status, answer) == (400, b'{"error":"too long"}')


async def test_a_busy_runtime_says_when_to_come_again(house: House) -> None:
    """C6: a 503 with Retry-After is no failure, and a router behind this gateway has to see that too."""
    busy = whole(b'{"error":{"message":"busy"}}', b"503 Service Unavailable\r\nRetry-After: 7")
    await house.node("one", answers(busy), dialects=OPENAI_ONLY)
    client = await post(house, CHAT, "/api/chat")
    status, headers, _ = await client.answer()
    assert (status, headers["retry-after"]) == (503, "7")


async def test_a_runtime_that_dies_within_an_event_leaves_whole_records(house: House) -> None:
    """B5: the error is a line of its own, directly behind the last good one."""
    await house.node("one", breaks_after(SSE_HEAD, chunk(DELTA), chunk(b'data: {"cho')), dialects=OPENAI_ONLY)
    client = await post(house, CHAT, "/api/chat")
    await client.head()
    first, error = (await client.rest()).split(b"\r\n")[1:4:2]
    assert first.endswith(b'"done":false}\n')
    assert error.startswith(b'{"error":"')


async def test_a_runtime_that_dies_before_its_first_record_is_replaced(house: House) -> None:
    """Its head alone is nothing that the client has seen."""
    await house.node("bad", breaks_after(SSE_HEAD, chunk(b'data: {"cho')), dialects=OPENAI_ONLY)
    await house.node("good", answers(SSE_HEAD, chunk(DELTA), chunk(LAST) + b"0\r\n\r\n"), dialects=OPENAI_ONLY)
    client = await post(house, CHAT, "/api/chat")
    assert (await client.head())[1]["x-llm-router-node"] == "good"
    assert len(lines(await client.chunks())) == 2


async def test_a_request_to_load_needs_no_runtime(house: House) -> None:
    """Ollama's clients send an empty prompt to have a model loaded."""
    await house.node("one", breaks_after(), dialects=OPENAI_ONLY)
    client = await post(house, b'{"model":"m"}', "/api/generate")
    status, _, answer = await client.answer()
    assert (status, msgspec.json.decode(answer)["done_reason"]) == (200, "load")


async def test_what_only_the_next_node_cannot_translate_is_the_callers_error(house: House) -> None:
    """Moving on to a node that needs a translation may find that there is none: the client is told so."""
    await house.node("busy", answers(whole(b"{}", b"429 Too Many Requests")))
    await house.node("openai", answers(whole(b"{}")), dialects=OPENAI_ONLY)
    client = await post(house, b'{"model":"m","prompt":"x","suffix":"y"}', "/api/generate")
    status, _, answer = await client.answer()
    assert (status, b"suffix" in answer) == (400, True)


async def test_show_may_call_the_model_by_its_old_field(house: House) -> None:
    """The `ollama` command sends `name` and an empty `model`."""
    await house.node("one", breaks_after(), dialects=OPENAI_ONLY)
    client = await post(house, b'{"model":"","name":"m"}', "/api/show")
    assert (await client.answer())[0] == 200
