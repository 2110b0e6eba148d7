"""What goes over the wire, in two APIs, seen from both ends: the fake machines answer, the player asks.

Ollama: `docs/api.md` of that project, "Generate a chat completion". OpenAI: API reference, "Chat completions".
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from bench.fleet.machine import Times
from bench.fleet.trace import Message

Json = dict[str, Any]

EPOCH = "2026-01-01T00:00:00Z"  # when everything was made; nobody looks
BORN = 1767225600  # the same in seconds
NO_LIMIT = 300  # tokens of an answer to somebody who names no number, such as another router's health check
NS = 1_000_000_000


class Asked(msgspec.Struct):
    """A request as a machine reads it."""

    model: str
    messages: list[Message]
    tokens: int
    stream: bool


class Heard(msgspec.Struct):
    """One record of a stream as a client reads it. A record without text is a sign of life."""

    text: str = ""
    done: bool = False
    error: str = ""


class Answered(msgspec.Struct, frozen=True):
    """An answer that is over."""

    model: str
    prompt_tokens: int
    tokens: int
    times: Times


class Ollama:
    """`POST /api/chat`."""

    path: ClassVar = "/api/chat"
    content_type: ClassVar = "application/x-ndjson"

    def ask(self, model: str, messages: Sequence[Message], tokens: int) -> bytes:
        """The body of a streaming request for `tokens` tokens."""
        body = {"model": model, "messages": messages, "stream": True, "options": {"num_predict": tokens}}
        return msgspec.json.encode(body)

    def read(self, body: bytes) -> Asked:
        """Raises msgspec.DecodeError."""
        asked = msgspec.json.decode(body, type=_OllamaAsked)
        return Asked(asked.model, asked.messages, asked.options.num_predict, asked.stream)

    def piece(self, model: str, text: str) -> bytes:
        """A record of a stream."""
        return msgspec.json.encode(self._record(model, text)) + b"\n"

    def last(self, answered: Answered) -> bytes:
        """The end of a stream."""
        return self.whole(answered, "") + b"\n"

    def whole(self, answered: Answered, text: str) -> bytes:
        """An answer in one piece."""
        times = answered.times
        end = {
            "done": True,
            "done_reason": "stop",
            "total_duration": round(times.total * NS),
            "load_duration": round(times.load * NS),
            "prompt_eval_count": answered.prompt_tokens,
            "prompt_eval_duration": round(times.prefill * NS),
            "eval_count": answered.tokens,
            "eval_duration": round(times.decode * NS),
        }
        return msgspec.json.encode(self._record(answered.model, text) | end)

    def hear(self, line: bytes) -> Heard:
        """One line of a stream. Raises msgspec.DecodeError."""
        record = msgspec.json.decode(line, type=_OllamaRecord)
        return Heard(record.message.content, record.done, record.error)

    def _record(self, model: str, text: str) -> Json:
        message = {"role": "assistant", "content": text}
        return {"model": model, "created_at": EPOCH, "message": message, "done": False}


class OpenAI:
    """`POST /v1/chat/completions`."""

    path: ClassVar = "/v1/chat/completions"
    content_type: ClassVar = "text/event-stream"

    def ask(self, model: str, messages: Sequence[Message], tokens: int) -> bytes:
        """The body of a streaming request for `tokens` tokens."""
        return msgspec.json.encode({"model": model, "messages": messages, "stream": True, "max_tokens": tokens})

    def read(self, body: bytes) -> Asked:
        """Raises msgspec.DecodeError."""
        asked = msgspec.json.decode(body, type=_OpenAIAsked)
        return Asked(asked.model, asked.messages, asked.max_tokens, asked.stream)

    def piece(self, model: str, text: str) -> bytes:
        """An event of a stream."""
        return self._event(self._chunk(model, {"content": text}, None))

    def last(self, answered: Answered) -> bytes:
        """The end of a stream; its last chunk tells the usage."""
        end = self._chunk(answered.model, {}, "stop") | {"usage": self._usage(answered)}
        return self._event(end) + b"data: [DONE]\n\n"

    def whole(self, answered: Answered, text: str) -> bytes:
        """An answer in one piece."""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        head = {"id": "chatcmpl-bench", "object": "chat.completion", "created": BORN, "model": answered.model}
        return msgspec.json.encode(head | {"choices": [choice], "usage": self._usage(answered)})

    def hear(self, line: bytes) -> Heard:
        """One line of a stream. Raises msgspec.DecodeError."""
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return Heard(done=True)
        if not line.startswith(b"data:"):  # an event's name, a comment
            return Heard()
        record = msgspec.json.decode(data, type=_OpenAIRecord)
        error = msgspec.json.encode(record.error).decode() if record.error is not None else ""
        return Heard("".join(choice.delta.content or "" for choice in record.choices), error=error)

    def _chunk(self, model: str, delta: Json, finish: str | None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": BORN, "model": model}
        return head | {"choices": [choice]}

    def _usage(self, answered: Answered) -> Json:
        prompt, answer = answered.prompt_tokens, answered.tokens
        return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}

    def _event(self, record: Json) -> bytes:
        return b"data: " + msgspec.json.encode(record) + b"\n\n"


Dialect = Ollama | OpenAI


class _OllamaOptions(msgspec.Struct):
    num_predict: int = NO_LIMIT


class _OllamaAsked(msgspec.Struct):
    model: str
    messages: list[Message] = []
    stream: bool = True
    options: _OllamaOptions = msgspec.field(default_factory=_OllamaOptions)


class _OpenAIAsked(msgspec.Struct):
    model: str
    messages: list[Message]
    stream: bool = False
    max_tokens: int = NO_LIMIT


class _Content(msgspec.Struct):
    content: str | None = ""


class _OllamaMessage(msgspec.Struct):
    content: str = ""


class _OllamaRecord(msgspec.Struct):
    message: _OllamaMessage = msgspec.field(default_factory=_OllamaMessage)
    done: bool = False
    error: str = ""


class _Choice(msgspec.Struct):
    delta: _Content = msgspec.field(default_factory=_Content)


class _OpenAIRecord(msgspec.Struct):
    choices: list[_Choice] = []
    error: Any = None
