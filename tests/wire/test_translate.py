"""What `wire.translate` promises: an Ollama request in OpenAI's words, with nothing lost that has a counterpart."""

import base64
from typing import Any

import msgspec
import ollama
import pytest

from llm_router.errors import BadRequest
from llm_router.wire.dialects import OPERATIONS
from llm_router.wire.translate import Translation, translate

HELLO = [{"role": "user", "content": "hi"}]


def ask(path: bytes, **fields: object) -> Translation:
    body = msgspec.json.encode({"model": "tiny"} | fields)
    return translate(OPERATIONS[path], body, model="runtime-id", now=0.0)


def call(path: bytes, **fields: object) -> dict[str, Any]:
    translation = ask(path, **fields)
    assert translation.answer is None
    decoded: dict[str, Any] = msgspec.json.decode(translation.body)
    return decoded


def test_a_chat_streams_and_asks_for_its_counts() -> None:
    """B2: Ollama streams unless told otherwise; the runtime gets its own id of the model."""
    translation = ask(b"/api/chat", messages=HELLO)
    assert translation.path == b"/v1/chat/completions"
    assert translation.content_type == "application/x-ndjson"
    assert msgspec.json.decode(translation.body) == {
        "model": "runtime-id",
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_whole_chat_is_asked_for_whole() -> None:
    """`stream: false` holds for the runtime as well."""
    translation = ask(b"/api/chat", messages=HELLO, stream=False)
    assert translation.content_type == "application/json; charset=utf-8"
    assert msgspec.json.decode(translation.body) == {"model": "runtime-id", "messages": HELLO, "stream": False}


def test_options_become_sampling_fields() -> None:
    """What both sides know goes over, under the runtime's name; what only Ollama knows is ignored."""
    options: dict[str, Any] = {
        "num_predict": 100,
        "num_keep": 5,
        "seed": 42,
        "temperature": 0.8,
        "top_k": 20,
        "top_p": 0.9,
        "min_p": 0.05,
        "typical_p": 0.7,
        "repeat_penalty": 1.2,
        "repeat_last_n": 33,
        "presence_penalty": 1.5,
        "frequency_penalty": 1.0,
        "mirostat": 1,
        "mirostat_tau": 0.8,
        "mirostat_eta": 0.6,
        "stop": ["\n", "user:"],
    }
    ignored: dict[str, Any] = {"num_ctx": 1024, "num_gpu": 1, "use_mmap": True, "tfs_z": None, "nobody_knows": {}}
    sent = call(b"/api/chat", messages=HELLO, stream=False, options=options | ignored, keep_alive="5m")
    for name in ("model", "messages", "stream"):
        del sent[name]
    expected = options | {"max_tokens": 100, "n_keep": 5, "repetition_penalty": 1.2}
    del expected["num_predict"], expected["num_keep"]
    assert sent == expected


@pytest.mark.parametrize("unlimited", [-1, -2, 0, None])
def test_unlimited_length_is_no_limit(unlimited: int | None) -> None:
    """-1 and -2 mean "until it stops", which is what the runtime does when nothing is said."""
    assert "max_tokens" not in call(b"/api/chat", messages=HELLO, options={"num_predict": unlimited})


@pytest.mark.parametrize(
    ("think", "sent"),
    [
        (True, {"chat_template_kwargs": {"enable_thinking": True}}),
        (False, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("low", {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "low"}),
        (None, {}),
    ],
)
def test_thinking_is_switched_in_the_chat_template(think: object, sent: dict[str, Any]) -> None:
    """`think` is a switch or an effort; not said is not sent."""
    body = call(b"/api/chat", messages=HELLO, think=think)
    assert {k: v for k, v in body.items() if k in {"chat_template_kwargs", "reasoning_effort"}} == sent


def test_format_json_is_a_json_object() -> None:
    """JSON mode."""
    assert call(b"/api/chat", messages=HELLO, format="json")["response_format"] == {"type": "json_object"}
    assert "response_format" not in call(b"/api/chat", messages=HELLO, format="")


def test_a_schema_stays_the_same() -> None:
    """Structured outputs: the schema goes over untouched, order included, since models fill it in order."""
    schema = {"type": "object", "properties": {"z": {"type": "integer"}, "a": {"const": 1.50}}, "required": ["z"]}
    sent = call(b"/api/chat", messages=HELLO, format=schema)["response_format"]
    assert sent["type"] == "json_schema"
    assert msgspec.json.encode(sent["json_schema"]["schema"]) == msgspec.json.encode(schema)


def test_logprobs_are_asked_for() -> None:
    """`top_logprobs` needs `logprobs` at OpenAI too."""
    sent = call(b"/api/chat", messages=HELLO, logprobs=True, top_logprobs=3)
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 3)


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("png", b"\x89PNG\r\n\x1a\n"),
        ("jpeg", b"\xff\xd8\xff\xe0"),
        ("gif", b"GIF89a"),
        ("webp", b"RIFF\x24\x00\x00\x00WEBP"),
    ],
)
def test_images_become_data_urls_of_their_type(kind: str, start: bytes) -> None:
    """The type is read off the first bytes, as Ollama's clients do not say it."""
    image = base64.b64encode(start + bytes(20)).decode()
    sent = call(b"/api/chat", messages=[{"role": "user", "content": "what is this?", "images": [image]}])
    assert sent["messages"][0]["content"] == [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{image}"}},
    ]


def test_tools_are_passed_on_untouched() -> None:
    """The two APIs describe tools alike."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "x-own": [1.0, None]}}}]
    assert call(b"/api/chat", messages=HELLO, tools=tools)["tools"] == tools


def test_tool_calls_get_ids_and_results_name_them() -> None:
    """Ollama knows results by the tool's name, OpenAI by the call's id."""
    calls = [{"function": {"name": name, "arguments": {"n": n}}} for n, name in enumerate(["f", "g", "f"])]
    results = [
        {"role": "tool", "tool_name": "g", "content": "of g"},
        {"role": "tool", "content": "of the first f"},
        {"role": "tool", "tool_name": "f", "content": "of the second f"},
        {"role": "tool", "content": "of nothing"},
    ]
    asked = {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": calls}
    sent = call(b"/api/chat", messages=[*HELLO, asked, *results])["messages"]
    assert sent[1]["reasoning_content"] == "hm"
    assert sent[1]["tool_calls"][2] == {
        "id": "call_1_2",
        "type": "function",
        "function": {"name": "f", "arguments": '{"n":2}'},
    }
    assert [m["tool_call_id"] for m in sent[2:]] == ["call_1_1", "call_1_0", "call_1_2", "call"]


def test_ids_that_a_client_keeps_are_used() -> None:
    """A client that sends our ids back gets its results where they belong."""
    calls = [{"id": i, "function": {"name": "f", "arguments": {}}} for i in ("a", "b")]
    results = [{"role": "tool", "tool_call_id": i, "content": i} for i in ("b", "a")]
    sent = call(b"/api/chat", messages=[{"role": "assistant", "tool_calls": calls}, *results])["messages"]
    assert [m["tool_call_id"] for m in sent[1:]] == ["b", "a"]


def test_generate_is_a_chat_of_one_prompt() -> None:
    """Ollama applies the chat template to `/api/generate`, with the system text in front."""
    translation = ask(b"/api/generate", prompt="hi", system="be brief", options={"num_predict": 3})
    assert translation.path == b"/v1/chat/completions"
    sent = msgspec.json.decode(translation.body)
    assert sent["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert sent["max_tokens"] == 3


def test_a_raw_prompt_stays_raw() -> None:
    """With `raw` no template is applied; both names of the schema go along, since runtimes differ."""
    translation = ask(b"/api/generate", prompt="[INST] hi", raw=True, format="json", logprobs=True)
    assert translation.path == b"/v1/completions"
    sent = msgspec.json.decode(translation.body)
    assert (sent["prompt"], sent["json_schema"], sent["logprobs"]) == ("[INST] hi", {"type": "object"}, 1)
    assert sent["response_format"] == {"type": "json_object"}


def test_texts_to_embed_are_passed_on() -> None:
    """`/api/embed` takes one text or several; the older route one."""
    assert call(b"/api/embed", input=["a", "b"], dimensions=8, truncate=True) == {
        "model": "runtime-id",
        "input": ["a", "b"],
        "dimensions": 8,
    }
    assert ask(b"/api/embed", input="a").path == b"/v1/embeddings"
    assert call(b"/api/embeddings", prompt="a") == {"model": "runtime-id", "input": "a"}


def test_no_prompt_is_answered_at_once() -> None:
    """Without messages or prompt Ollama only loads the model; the answer names the client's model."""
    chat = ollama.ChatResponse.model_validate_json(ask(b"/api/chat").answer or b"")
    generate = ollama.GenerateResponse.model_validate_json(ask(b"/api/generate", prompt="").answer or b"")
    for response in (chat, generate):
        assert (response.model, response.done, response.done_reason) == ("tiny", True, "load")
    assert chat.message.content == generate.response == ""
    embed = ollama.EmbedResponse.model_validate_json(ask(b"/api/embed", input=[]).answer or b"")
    assert (embed.model, embed.embeddings) == ("tiny", [])
    assert ask(b"/api/embeddings").answer == b'{"embedding":[]}'


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        (b"/api/chat", {"messages": "hi"}, r"\$\.messages"),
        (b"/api/chat", {"messages": [{"content": "hi"}]}, "role"),
        (b"/api/chat", {"messages": [{"role": "user", "content": 5}]}, r"\$\.messages\[0\]\.content"),
        (b"/api/chat", {"messages": HELLO, "options": {"top_k": "many"}}, r"\$\.options\.top_k"),
        (b"/api/chat", {"messages": HELLO, "stream": "no"}, r"\$\.stream"),
        (b"/api/chat", {"messages": HELLO, "think": "a lot"}, r"\$\.think"),
        (b"/api/chat", {"messages": HELLO, "format": "xml"}, r"\$\.format"),
        (b"/api/generate", {"prompt": ["hi"]}, r"\$\.prompt"),
        (b"/api/generate", {"prompt": "a", "suffix": "b"}, "suffix"),
        (b"/api/generate", {"prompt": "a", "raw": True, "images": ["x"]}, "images"),
        (b"/api/embed", {"input": 5}, r"\$\.input"),
    ],
)
def test_a_request_that_cannot_be_used_is_refused_by_name(path: bytes, fields: dict[str, Any], named: str) -> None:
    """The caller is told which field is wrong."""
    with pytest.raises(BadRequest, match=named):
        ask(path, **fields)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":"\xff"}', b'{"messages":[]}'])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    """Not JSON, not UTF-8, not an object, no model."""
    with pytest.raises(BadRequest, match="cannot be read"):
        translate(OPERATIONS[b"/api/chat"], body, model="m", now=0.0)


def test_show_is_answered_without_the_runtime() -> None:
    """`ollama run` asks /api/show before anything else; it wants details and capabilities."""
    translation = translate(OPERATIONS[b"/api/show"], b'{"model":"m"}', model="m", now=0.0)
    shown = ollama.ShowResponse.model_validate_json(translation.answer or b"")
    assert shown.details
    assert (shown.details.format, shown.capabilities) == ("gguf", ["completion"])


def test_only_ollamas_operations_are_translated() -> None:
    """What a node does not speak and nobody can translate is the caller's error, not a crash."""
    with pytest.raises(BadRequest, match="does not speak this API"):
        translate(OPERATIONS[b"/v1/messages"], b"{}", model="m", now=0.0)
