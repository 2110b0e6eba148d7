"""Ollama's API for runtimes that speak only OpenAI's (llama.cpp's server, vLLM): the request, put in OpenAI's words.

Rule 1: what has no counterpart is ignored, as Ollama ignores options that it does not know.
Rule 2: what would make the answer wrong without being seen (`suffix`, images in a raw prompt) is refused by name.

    /api/chat                   -> /v1/chat/completions
    /api/generate               -> /v1/chat/completions (Ollama applies the chat template); with raw: /v1/completions
    /api/embed, /api/embeddings -> /v1/embeddings
    /api/show                   -> answered here

The way back is `wire.answers`. Sources: ollama/ollama `docs/api.md`, `api/types.go`, `server/routes.go`; OpenAI's API
reference; llama.cpp `tools/server/README.md` (sampling fields, `chat_template_kwargs`).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Raw, Struct

from llm_router.contract import UNREADABLE
from llm_router.errors import BadRequest
from llm_router.wire.answers import (
    Embedded,
    EmbeddedOne,
    Generation,
    Streamed,
    Translation,
    Whole,
    loaded,
    no_embedding,
    no_embeddings,
    shown,
)
from llm_router.wire.dialects.base import Operation
from llm_router.wire.wishes import Wishes, keep_alive

__all__ = ["Translation", "translate"]

_T = TypeVar("_T")
_Number = int | float

_encode = msgspec.json.Encoder().encode


def translate(operation: Operation, body: bytes, *, model: str, now: float) -> Translation:
    """Put a request to one of Ollama's operations in OpenAI's words.

    `model` is the id under which the runtime knows it; the answer carries the name that the client used. `now`: seconds
    since the epoch.

    Raises:
        BadRequest: the body cannot be used as this operation, and the message names the field; or it is not Ollama's.
    """
    form, translator = _TRANSLATORS.get(operation.name, (None, None))
    if form is None or translator is None:
        raise BadRequest(f"{operation.name}: the node that has this model does not speak this API")
    asked = _read(body, form)
    translation = translator(asked, model, now)
    translation.wishes = _wishes(asked)
    return translation


# -- what an Ollama client sends (api/types.go); null is as good as absent, as in Go


class _Options(Struct):
    num_predict: _Number | None = None
    num_keep: _Number | None = None
    seed: _Number | None = None
    temperature: _Number | None = None
    top_k: _Number | None = None
    top_p: _Number | None = None
    min_p: _Number | None = None
    typical_p: _Number | None = None
    repeat_penalty: _Number | None = None
    repeat_last_n: _Number | None = None
    presence_penalty: _Number | None = None
    frequency_penalty: _Number | None = None
    mirostat: _Number | None = None
    mirostat_tau: _Number | None = None
    mirostat_eta: _Number | None = None
    stop: list[str] | None = None
    num_ctx: _Number | None = None


# Where the runtimes' name is another one. llama.cpp and vLLM differ on repeat_penalty; each ignores the other's.
_RENAMED = {
    "num_predict": ("max_tokens",),
    "num_keep": ("n_keep",),
    "repeat_penalty": ("repeat_penalty", "repetition_penalty"),
}


class _Function(Struct):
    name: str
    arguments: dict[str, Raw] = {}


class _Call(Struct):
    function: _Function
    id: str = ""


class _Message(Struct):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _Any(Struct, kw_only=True):
    """What all have in common."""

    model: str
    keep_alive: _Number | str | None = None
    options: _Options | None = None


class _Asked(_Any, kw_only=True):
    """What chat and generate have in common."""

    stream: bool | None = None
    format: Literal["json", ""] | dict[str, Raw] | None = None
    think: bool | Literal["low", "medium", "high"] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class _Chat(_Asked, kw_only=True):
    messages: list[_Message] | None = None
    tools: list[Raw] | None = None


class _Generate(_Asked, kw_only=True):
    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    suffix: str | None = None
    raw: bool | None = None


class _Embed(_Any):
    input: str | list[str] | None = None
    dimensions: int | None = None


class _Embeddings(_Any):
    prompt: str | None = None


class _Show(_Any, kw_only=True):
    model: str = ""  # or `name`, see peek.py


# -- the request over


def _translate_chat(asked: _Chat, model: str, now: float) -> Translation:
    if not asked.messages:
        return loaded(asked.model, now, _wishes(asked), chat=True)
    call = {"messages": _messages(asked.messages)} | _chat_settings(asked)
    if asked.tools:
        call["tools"] = asked.tools
    return _generation(_CHAT, call, asked, model, now, chat=True)


def _translate_generate(asked: _Generate, model: str, now: float) -> Translation:
    if not asked.prompt and not asked.images:
        return loaded(asked.model, now, _wishes(asked), chat=False)
    if asked.suffix:
        raise BadRequest("suffix: the runtime of this model cannot insert text between a prompt and a suffix")
    if asked.raw:
        return _generation(_COMPLETIONS, _raw_call(asked), asked, model, now, chat=False)
    messages = [_Message("user", asked.prompt, images=asked.images)]
    if asked.system:
        messages.insert(0, _Message("system", asked.system))
    call = {"messages": _messages(messages)} | _chat_settings(asked)
    return _generation(_CHAT, call, asked, model, now, chat=False)


def _translate_embed(asked: _Embed, model: str, now: float) -> Translation:
    if not asked.input:
        return no_embeddings(asked.model)
    call: dict[str, Any] = {"model": model, "input": asked.input}
    if asked.dimensions:
        call["dimensions"] = asked.dimensions
    return Embedded(call, asked.model, now)


def _translate_embeddings(asked: _Embeddings, model: str, now: float) -> Translation:
    if not asked.prompt:
        return no_embedding()
    return EmbeddedOne({"model": model, "input": asked.prompt}, asked.model, now)


def _translate_show(asked: _Show, model: str, now: float) -> Translation:  # noqa: ARG001 - the name is known to be one
    return shown(now)


_CHAT = b"/v1/chat/completions"
_COMPLETIONS = b"/v1/completions"
_TRANSLATORS: dict[str, tuple[type[_Any], Callable[[Any, str, float], Translation]]] = {
    "ollama.chat": (_Chat, _translate_chat),
    "ollama.generate": (_Generate, _translate_generate),
    "ollama.embed": (_Embed, _translate_embed),
    "ollama.embeddings": (_Embeddings, _translate_embeddings),
    "ollama.show": (_Show, _translate_show),
}


def _read(body: bytes, type: type[_T]) -> _T:  # noqa: A002 - as msgspec calls it
    try:
        return msgspec.json.decode(body, type=type)
    except UNREADABLE as error:
        raise BadRequest(f"the body cannot be read: {error}") from error


def _wishes(asked: _Any) -> Wishes:
    keep = None if asked.keep_alive is None else keep_alive(asked.keep_alive)
    context = asked.options.num_ctx if asked.options is not None else None
    return Wishes(keep, max(0, int(context or 0)))


def _generation(path: bytes, call: dict[str, Any], asked: _Asked, model: str, now: float, *, chat: bool) -> Generation:
    streamed = asked.stream is not False
    call["model"] = model
    call["stream"] = streamed
    if streamed:
        call["stream_options"] = {"include_usage": True}
    call |= _sampling(asked.options)
    kind = Streamed if streamed else Whole
    return kind(path, _encode(call), asked.model, now, chat=chat)


def _sampling(options: _Options | None) -> dict[str, Any]:
    if options is None:
        return {}
    given = {name: value for name, value in msgspec.structs.asdict(options).items() if value is not None}
    given.pop("num_ctx", None)  # see _wishes
    if given.get("num_predict", 1) <= 0:  # -1 and -2: until the model stops or its context is full
        del given["num_predict"]
    return {theirs: value for name, value in given.items() for theirs in _RENAMED.get(name, (name,))}


def _chat_settings(asked: _Asked) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if asked.format:
        settings["response_format"] = _response_format(asked.format)
    if asked.think is not None:
        settings["chat_template_kwargs"] = {"enable_thinking": asked.think is not False}
    if isinstance(asked.think, str):
        settings["reasoning_effort"] = asked.think
    if asked.logprobs:
        settings["logprobs"] = True
        settings["top_logprobs"] = asked.top_logprobs or 0
    return settings


def _raw_call(asked: _Generate) -> dict[str, Any]:
    if asked.images:
        raise BadRequest("images: a raw prompt cannot carry images on the runtime of this model")
    call: dict[str, Any] = {"prompt": asked.prompt}
    if asked.format:  # llama.cpp reads json_schema here, and response_format only with a chat; vLLM the other one
        call["response_format"] = _response_format(asked.format)
        call["json_schema"] = {"type": "object"} if isinstance(asked.format, str) else asked.format
    if asked.logprobs:
        call["logprobs"] = asked.top_logprobs or 1
    return call


def _response_format(format: str | dict[str, Raw]) -> dict[str, Any]:  # noqa: A002 - the field's name
    if isinstance(format, str):
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": format}}


def _messages(messages: Sequence[_Message]) -> list[dict[str, Any]]:
    """Ollama's tool calls have no ids that one could rely on; OpenAI's need them, and results that name theirs."""
    open_calls: list[_Call] = []  # tool calls that have no result yet
    translated = []
    for position, message in enumerate(messages):
        item: dict[str, Any] = {"role": message.role, "content": _content(message)}
        if message.thinking:
            item["reasoning_content"] = message.thinking
        if message.tool_calls:
            for number, call in enumerate(message.tool_calls):
                call.id = call.id or f"call_{position}_{number}"
            item["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
            open_calls += message.tool_calls
        elif message.role == "tool":
            item |= _whose_result(message, open_calls)
        translated.append(item)
    return translated


def _tool_call(call: _Call) -> dict[str, Any]:
    arguments = _encode(call.function.arguments).decode()
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


def _whose_result(message: _Message, open_calls: list[_Call]) -> dict[str, str]:
    """The call that a tool's message answers: by id, else the first open one of that tool, else the first open one."""
    by_id = [c for c in open_calls if c.id == message.tool_call_id]
    by_name = [c for c in open_calls if c.function.name == message.tool_name]
    call = next(iter(by_id or by_name or open_calls), None)
    if call is None:
        return {"tool_call_id": message.tool_call_id or "call"}
    open_calls.remove(call)
    return {"tool_call_id": call.id, "name": call.function.name}


def _content(message: _Message) -> str | list[dict[str, Any]]:
    text = message.content or ""
    if not message.images:
        return text
    images = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in message.images]
    return [{"type": "text", "text": text}, *images] if text else images


# How a file of each type begins, in base64
_MAGIC = {"iVBORw0KGgo": "png", "/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp", "Qk": "bmp"}


def _data_url(image: str) -> str:
    if image.startswith("data:"):
        return image
    kind = next((kind for magic, kind in _MAGIC.items() if image.startswith(magic)), "jpeg")
    return f"data:image/{kind};base64,{image}"
