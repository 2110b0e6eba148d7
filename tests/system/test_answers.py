"""A real answer through router, node and llama.cpp, in each of the three APIs (requirements B1, B2)."""

from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import openai
import pytest
from anthropic.types import TextBlock
from openai.types.responses import ResponseTextDeltaEvent
from tests.system.conftest import Fleet
from tests.system.harness import HELLO, call, chat, eventually

from llm_router.node.models.builtin import SENTENCE

WORDS = SENTENCE.split()
ASKED: list[Any] = [{"role": "user", "content": "hi"}]
LIMIT = 200  # tokens; more than the sentence has


def said(text: str | None) -> list[str]:
    return (text or "").split()


def test_curl_chat(fleet: Fleet) -> None:
    """`/api/chat` streams NDJSON as it comes, and the last record has `done` and counts."""
    answer = chat(fleet.url, HELLO)

    *records, last = answer.records()
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert said("".join(r["message"]["content"] for r in [*records, last])) == WORDS
    assert len(records) > 5
    assert all(r["done"] is False for r in records)
    assert last["done"] is True
    assert last["eval_count"] > 5
    assert last["prompt_eval_count"] > 0
    assert answer.headers["x-request-id"]
    assert answer.headers["x-llm-router-node"]


def test_curl_completions(fleet: Fleet) -> None:
    """`/v1/chat/completions` with `stream` sends SSE, and `[DONE]` at the end."""
    body = {"model": HELLO, "messages": ASKED, "stream": True}
    answer = call(fleet.url, "POST", "/v1/chat/completions", body)

    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert said("".join(r["choices"][0]["delta"].get("content") or "" for r in answer.records())) == WORDS
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_curl_messages(fleet: Fleet) -> None:
    """`/v1/messages` answers in Anthropic's shape, whole where nobody asks for a stream (B2)."""
    body = {"model": HELLO, "max_tokens": LIMIT, "messages": ASKED}
    answer = call(fleet.url, "POST", "/v1/messages", body).json()

    assert answer["type"] == "message"
    assert said(answer["content"][0]["text"]) == WORDS
    assert answer["usage"]["output_tokens"] > 5


def test_completions_whole(fleet: Fleet) -> None:
    """`/v1/chat/completions` does not stream unless told to (B2)."""
    answer = call(fleet.url, "POST", "/v1/chat/completions", {"model": HELLO, "messages": ASKED})

    assert answer.headers["content-type"].startswith("application/json")
    assert said(answer.json()["choices"][0]["message"]["content"]) == WORDS


@pytest.mark.parametrize("stream", [True, False])
def test_ollama_client(fleet: Fleet, stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The `ollama` package chats and generates, streamed and whole."""
    with ollama.Client(fleet.url) as client:
        talk = client.chat(HELLO, ASKED, stream=stream)
        made = client.generate(HELLO, "hi", stream=stream)
        spoken = "".join(r.message.content or "" for r in (talk if stream else [talk]))
        written = "".join(r.response for r in (made if stream else [made]))

    assert said(spoken) == WORDS
    assert written.split()


def test_ollama_lists(fleet: Fleet) -> None:
    """`ollama list` and `ollama ps` show the model; `:latest` may be left out or said (requirement C5)."""
    with ollama.Client(fleet.url) as client:
        running = eventually(lambda: client.ps().models)  # known from the first heartbeat on
        assert [str(m.model).removesuffix(":latest") for m in running] == [HELLO]
        assert [str(m.model).removesuffix(":latest") for m in client.list().models] == [HELLO]
        assert said(client.chat(f"{HELLO}:latest", ASKED).message.content) == WORDS
        assert "completion" in (client.show(HELLO).capabilities or [])  # `ollama run` asks before it chats
    assert call(fleet.url, "GET", "/").body == b"Ollama is running"
    assert call(fleet.url, "GET", "/api/version").json()["version"]


@pytest.fixture
def openai_client(fleet: Fleet) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_chat(openai_client: openai.OpenAI) -> None:
    """The `openai` package chats, streamed with usage, and whole."""
    whole = openai_client.chat.completions.create(model=HELLO, messages=ASKED)
    stream = openai_client.chat.completions.create(
        model=HELLO, messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)

    assert said(whole.choices[0].message.content) == WORDS
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 5
    assert said("".join(c.choices[0].delta.content or "" for c in chunks if c.choices)) == WORDS
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 5


def test_openai_completions(openai_client: openai.OpenAI) -> None:
    """The older `/v1/completions` works, streamed and whole."""
    whole = openai_client.completions.create(model=HELLO, prompt="hi", max_tokens=8)
    stream = openai_client.completions.create(model=HELLO, prompt="hi", max_tokens=8, stream=True)

    assert whole.choices[0].text
    assert "".join(c.choices[0].text for c in stream if c.choices) == whole.choices[0].text


def test_openai_responses(openai_client: openai.OpenAI) -> None:
    """`/v1/responses` works, streamed and whole."""
    whole = openai_client.responses.create(model=HELLO, input="hi")
    stream = openai_client.responses.create(model=HELLO, input="hi", stream=True)
    deltas = [e.delta for e in stream if isinstance(e, ResponseTextDeltaEvent)]

    assert said(whole.output_text) == WORDS
    assert said("".join(deltas)) == WORDS


def test_openai_models(openai_client: openai.OpenAI) -> None:
    """The list of models is the union of the nodes', each once (requirement C8)."""
    assert [m.id for m in openai_client.models.list()] == [HELLO]
    assert openai_client.models.retrieve(HELLO).id == HELLO


def test_anthropic_client(fleet: Fleet) -> None:
    """The `anthropic` package gets messages, streamed and whole."""
    with anthropic.Anthropic(base_url=fleet.url, api_key="none", max_retries=0) as client:
        whole = client.messages.create(model=HELLO, max_tokens=LIMIT, messages=ASKED)
        with client.messages.stream(model=HELLO, max_tokens=LIMIT, messages=ASKED) as stream:
            pieces = list(stream.text_stream)
            final = stream.get_final_message()

    assert isinstance(whole.content[0], TextBlock)
    assert said(whole.content[0].text) == WORDS
    assert said("".join(pieces)) == WORDS
    assert len(pieces) > 5
    assert final.stop_reason == whole.stop_reason
