"""The way back of `wire.translate`: an OpenAI server's answer, streamed or whole, made into Ollama's.

Rule 1: a record leaves as soon as it is complete; only tool calls, which Ollama sends whole, are collected.
Rule 2: one decode and one encode per record; what is not looked at is not decoded.
Rule 3: an answer that did not reach its end is never ended with `done: true`.

Sources: ollama/ollama `docs/api.md`, `api/types.go`; OpenAI's API reference; llama.cpp `tools/server/README.md`
(`reasoning_content`, `timings`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from llm_router.contract import UNREADABLE, ModelDetails
from llm_router.errors import UpstreamFailed
from llm_router.wire.dialects.ollama import NANOSECONDS, OLLAMA, failure
from llm_router.wire.stream import SseCutter
from llm_router.wire.wishes import Wishes

WHOLE_LIMIT = 256 * 1024 * 1024  # bytes of a whole answer; 2,048 embeddings of 4,096 numbers take about 160 MB
SHOWN = 500  # characters of a runtime's unreadable error text that a client is shown

STREAM = OLLAMA.stream_type
WHOLE = "application/json; charset=utf-8"  # as Ollama's web framework writes it

NO_WISHES = Wishes()

_T = TypeVar("_T")


class Translation:
    """One request in the runtime's words, and the way back for its answer.

    POST `body` to `path`. A 200 answer's body goes through `feed` and, when it is complete, `end`; any other one
    through `error`. Where `answer` is not None it is the whole answer already, and the runtime need not be asked;
    `loads`: but the model is to be in memory first. `wishes` are about its place there.
    """

    __slots__ = ("answer", "body", "content_type", "loads", "path", "wishes")

    def __init__(self, path: bytes, body: bytes, content_type: str, answer: bytes | None = None) -> None:
        self.path = path
        self.body = body
        self.content_type = content_type
        self.answer = answer
        self.loads = False
        self.wishes = NO_WISHES

    def feed(self, data: bytes, now: float) -> bytes:
        """Body bytes of the runtime, framing removed -> bytes for the client, maybe none. `now`: seconds since 1970.

        Raises:
            UpstreamFailed: these are not the bytes of an OpenAI server.
        """
        raise NotImplementedError

    def end(self, now: float) -> bytes:
        """The runtime's answer is over -> the rest for the client.

        Raises:
            UpstreamFailed: it is not complete, or not what was asked for.
        """
        raise NotImplementedError

    def error(self, status: int, body: bytes) -> bytes:
        """The runtime answered an error -> the body of ours, with its message."""
        return failure(_message(body) or f"the runtime answered with status {status}")


# -- what the runtime answers, streamed or whole, chat or completion: one struct for a single decode


class _FunctionPiece(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _CallPiece(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _FunctionPiece | None = None


class _Said(Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None  # llama.cpp, DeepSeek, vLLM before it renamed the field
    reasoning: str | None = None  # vLLM
    tool_calls: list[_CallPiece] | None = None


class _Logprob(Struct, gc=False, omit_defaults=True):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: "list[_Logprob] | None" = None


class _Logprobs(Struct, gc=False):
    content: list[_Logprob] | None = None


class _Choice(Struct, gc=False):
    delta: _Said | None = None
    message: _Said | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Timings(Struct, gc=False):
    """llama.cpp's; milliseconds."""

    prompt_n: int = 0
    cache_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0


class _Answer(Struct, gc=False):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: object = None


class _Vector(Struct, gc=False):
    embedding: Raw  # passed on as it came: the numbers are of no interest here
    index: int = 0


class _Vectors(Struct, gc=False):
    data: list[_Vector] = []
    usage: _Usage | None = None
    error: object = None


# -- what the Ollama client gets; fields in the order of api/types.go


class _CalledFunction(Struct, gc=False):
    index: int
    name: str
    arguments: Raw


class _Called(Struct, gc=False):
    id: str
    function: _CalledFunction


class _Reply(Struct, gc=False, omit_defaults=True):
    role: str
    content: str
    thinking: str = ""
    tool_calls: list[_Called] = []


class _Record(Struct, gc=False, kw_only=True, omit_defaults=True):
    """A record of chat (`message`) or generate (`response`, `thinking`); durations in nanoseconds."""

    model: str
    created_at: datetime
    message: _Reply | UnsetType = UNSET
    response: str | UnsetType = UNSET
    thinking: str = ""
    logprobs: list[_Logprob] | None = None
    done: bool
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class _EmbedRecord(Struct, gc=False):
    model: str
    embeddings: list[Raw]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class _EmbeddingsRecord(Struct, gc=False):
    embedding: Raw


class _Shown(Struct, gc=False, kw_only=True):
    """ShowResponse in api/types.go. `model_info` is null: the `ollama` command takes an empty one for a full one."""

    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    details: ModelDetails
    model_info: None = None
    capabilities: tuple[str, ...] = ("completion",)
    modified_at: datetime


_encode = msgspec.json.Encoder().encode
_ANSWER = msgspec.json.Decoder(_Answer)
_VECTORS = msgspec.json.Decoder(_Vectors)


# -- the answer back


def _record(model: str, now: float, content: str, thinking: str = "", *, chat: bool) -> _Record:
    at = datetime.fromtimestamp(now, UTC)
    if chat:
        return _Record(model=model, created_at=at, message=_Reply("assistant", content, thinking), done=False)
    return _Record(model=model, created_at=at, response=content, thinking=thinking, done=False)


def loaded(model: str, now: float, wishes: Wishes, *, chat: bool) -> Translation:
    """Without a prompt Ollama only loads the model; or unloads it, if it shall not be kept (server/routes.go)."""
    stays = wishes.keep_alive != 0
    record = _record(model, now, "", chat=chat)
    record.done = True
    record.done_reason = "load" if stays else "unload"
    translation = Translation(b"", b"", WHOLE, _encode(record))
    translation.loads = stays
    return translation


def no_embeddings(model: str) -> Translation:
    """Nothing to embed, for /api/embed."""
    return Translation(b"", b"", WHOLE, _encode(_EmbedRecord(model, [])))


def shown(now: float) -> Translation:
    """What /api/show says of a model whose runtime has no such call: it is there and completes text."""
    at = datetime.fromtimestamp(now, UTC)
    return Translation(b"", b"", WHOLE, _encode(_Shown(details=ModelDetails(format="gguf"), modified_at=at)))


def no_embedding() -> Translation:
    """Nothing to embed, for /api/embeddings."""
    return Translation(b"", b"", WHOLE, _encode(_EmbeddingsRecord(Raw(b"[]"))))


class Generation(Translation):
    """What streamed and whole answers of chat and generate have in common: the record and its last fields."""

    __slots__ = ("_chat", "_finish_reason", "_first", "_model", "_started", "_timings", "_usage")

    def __init__(self, path: bytes, body: bytes, model: str, now: float, *, chat: bool) -> None:
        super().__init__(path, body, STREAM if isinstance(self, Streamed) else WHOLE)
        self._model = model
        self._chat = chat
        self._started = now
        self._first = now  # when the first token came; a whole answer does not tell
        self._usage: _Usage | None = None
        self._timings: _Timings | None = None
        self._finish_reason: str | None = None

    def _note(self, answer: _Answer) -> None:
        self._usage = answer.usage or self._usage
        self._timings = answer.timings or self._timings

    def _said(self, choice: _Choice, now: float) -> _Record:
        said = choice.delta or choice.message
        if said is None:
            record = _record(self._model, now, choice.text or "", chat=self._chat)
        else:
            thinking = said.reasoning_content or said.reasoning or ""
            record = _record(self._model, now, said.content or "", thinking, chat=self._chat)
        if choice.logprobs:
            record.logprobs = choice.logprobs.content
        return record

    def _last(self, record: _Record, now: float) -> _Record:
        """`record` with what makes it the final one: counts and times from the runtime, else as measured here."""
        usage, timings = self._usage or _Usage(), self._timings or _Timings()
        record.done = True
        record.done_reason = "length" if self._finish_reason == "length" else "stop"
        record.total_duration = _nanoseconds(now - self._started)
        record.load_duration = 0
        record.prompt_eval_count = usage.prompt_tokens or timings.prompt_n + timings.cache_n
        record.eval_count = usage.completion_tokens or timings.predicted_n
        if self._timings:
            record.prompt_eval_duration = _nanoseconds(timings.prompt_ms / 1e3)
            record.eval_duration = _nanoseconds(timings.predicted_ms / 1e3)
        else:
            record.prompt_eval_duration = _nanoseconds(self._first - self._started)
            record.eval_duration = _nanoseconds(now - self._first)
        return record


class Streamed(Generation):
    """SSE in, NDJSON out."""

    __slots__ = ("_calls", "_cutter", "_over")

    def __init__(self, path: bytes, body: bytes, model: str, now: float, *, chat: bool) -> None:
        super().__init__(path, body, model, now, chat=chat)
        self._cutter = SseCutter()
        self._calls = _Calls()
        self._over = False  # the final record or an error is out: nothing may follow

    def feed(self, data: bytes, now: float) -> bytes:
        """Records for every event that `data` completes."""
        return b"".join([self._event(event, now) for event in self._cutter.feed(data)])

    def end(self, now: float) -> bytes:
        """What is still owed to the client: usually nothing, as the final record goes out with `[DONE]`."""
        rest = b"".join([self._event(event, now) for event in self._cutter.end()])
        if self._over:
            return rest
        if self._finish_reason is None:
            raise UpstreamFailed("the runtime's answer ended before it was complete")
        return rest + self._conclude(now)

    def _event(self, data: bytes, now: float) -> bytes:
        if self._over:
            return b""
        if data == b"[DONE]":
            return self._conclude(now)
        answer = _decode(_ANSWER, data)
        if answer.error:
            self._over = True
            return failure(_message(data) or "the runtime failed without saying why") + b"\n"
        self._note(answer)
        return self._choice(answer.choices[0], now) if answer.choices else b""

    def _choice(self, choice: _Choice, now: float) -> bytes:
        self._finish_reason = choice.finish_reason or self._finish_reason
        said = choice.delta
        if said is not None and said.tool_calls:
            self._calls.add(said.tool_calls)
        text = choice.text if said is None else said.content or said.reasoning_content or said.reasoning
        if not text and choice.logprobs is None:
            return b""
        if self._first == self._started:
            self._first = now
        return _encode(self._said(choice, now)) + b"\n"

    def _conclude(self, now: float) -> bytes:
        self._over = True
        last = _encode(self._last(_record(self._model, now, "", chat=self._chat), now)) + b"\n"
        calls = self._calls.whole(cut=self._finish_reason == "length")
        if not calls or not self._chat:
            return last
        record = _record(self._model, now, "", chat=True)
        record.message = _Reply("assistant", "", tool_calls=calls)
        return _encode(record) + b"\n" + last


class Whole(Generation):
    """One JSON object in, one out."""

    __slots__ = ("_collected",)

    def __init__(self, path: bytes, body: bytes, model: str, now: float, *, chat: bool) -> None:
        super().__init__(path, body, model, now, chat=chat)
        self._collected = _Collected()

    def feed(self, data: bytes, now: float) -> bytes:  # noqa: ARG002 - a whole answer has one time, its end
        """Nothing yet."""
        return self._collected.add(data)

    def end(self, now: float) -> bytes:
        """The whole answer."""
        answer = _decode(_ANSWER, self._collected.body)
        if answer.error or not answer.choices:
            raise UpstreamFailed(_message(self._collected.body) or "the runtime's answer has no choices")
        self._note(answer)
        choice = answer.choices[0]
        self._finish_reason = choice.finish_reason
        record = self._last(self._said(choice, now), now)
        if choice.message and choice.message.tool_calls and record.message:
            calls = _Calls()
            calls.add(choice.message.tool_calls)
            record.message.tool_calls = calls.whole(cut=self._finish_reason == "length")
        return _encode(record)


class _Calls:
    """Tool calls, put together from the pieces in which OpenAI streams them: arguments are JSON text cut anywhere."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[int, tuple[str, str, list[str]]] = {}  # index -> id, name, pieces of the arguments

    def add(self, pieces: Sequence[_CallPiece]) -> None:
        """Take in what one record says. A piece without an index (as in a whole answer) is a call of its own."""
        for piece in pieces:
            index = len(self._calls) if piece.index is None else piece.index
            function = piece.function or _FunctionPiece()
            id_, name, arguments = self._calls.get(index, ("", "", []))
            arguments.append(function.arguments or "")
            self._calls[index] = (id_ or piece.id or "", name or function.name or "", arguments)

    def whole(self, *, cut: bool) -> list[_Called]:
        """The calls. `cut`: the answer reached its limit of tokens, so the last of them may be half a call: left out.

        Raises:
            UpstreamFailed: the arguments of a call are not a JSON object.
        """
        called = []
        for index, (id_, name, pieces) in self._calls.items():
            arguments = "".join(pieces) or "{}"
            if _is_object(arguments):
                called.append(_Called(id_, _CalledFunction(index, name, Raw(arguments))))
            elif not cut:
                raise UpstreamFailed(f"the runtime called the tool {name!r} with arguments that are not a JSON object")
        return called


class _Collected:
    """The body of a whole answer as it comes in."""

    __slots__ = ("body",)

    def __init__(self) -> None:
        self.body = bytearray()

    def add(self, data: bytes) -> bytes:
        """Keep `data`; gives what there is for the client until the end: nothing."""
        self.body += data
        if len(self.body) > WHOLE_LIMIT:
            raise UpstreamFailed(f"the runtime's answer is larger than {WHOLE_LIMIT} bytes")
        return b""


class Embedded(Translation):
    """An answer of /v1/embeddings; the numbers are passed on as they came."""

    __slots__ = ("_collected", "_model", "_started")

    def __init__(self, call: dict[str, Any], model: str, now: float) -> None:
        super().__init__(b"/v1/embeddings", _encode(call), WHOLE)
        self._collected = _Collected()
        self._model = model
        self._started = now

    def feed(self, data: bytes, now: float) -> bytes:  # noqa: ARG002 - a whole answer has one time, its end
        """Nothing yet."""
        return self._collected.add(data)

    def end(self, now: float) -> bytes:
        """The whole answer."""
        answer = _decode(_VECTORS, self._collected.body)
        if answer.error or not answer.data:
            raise UpstreamFailed(_message(self._collected.body) or "the runtime's answer has no embeddings")
        vectors = [v.embedding for v in sorted(answer.data, key=lambda v: v.index)]
        prompt_tokens = (answer.usage and answer.usage.prompt_tokens) or 0
        return self._finished(vectors, _nanoseconds(now - self._started), prompt_tokens)

    def _finished(self, vectors: list[Raw], duration: int, prompt_tokens: int) -> bytes:
        return _encode(_EmbedRecord(self._model, vectors, total_duration=duration, prompt_eval_count=prompt_tokens))


class EmbeddedOne(Embedded):
    """/api/embeddings, the older route: one prompt, one vector, no counts."""

    __slots__ = ()

    def _finished(self, vectors: list[Raw], duration: int, prompt_tokens: int) -> bytes:  # noqa: ARG002 - it has no counts
        return _encode(_EmbeddingsRecord(vectors[0]))


# -- reading the runtime's words


def _decode(decoder: msgspec.json.Decoder[_T], data: bytes | bytearray) -> _T:
    try:
        return decoder.decode(data)
    except UNREADABLE as error:
        raise UpstreamFailed(f"the runtime's answer cannot be read: {error}") from error


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except msgspec.DecodeError:
        return False


def _message(body: bytes | bytearray) -> str:
    """What an error body says: OpenAI's object, Ollama's text, FastAPI's `detail`, or the body itself if it is none."""
    try:
        said = msgspec.json.decode(body)
    except UNREADABLE:
        return body[:SHOWN].decode(errors="replace").strip()
    found = said
    while isinstance(found, dict):
        found = found.get("error") or found.get("message") or found.get("detail")
    return str(found or "")[:SHOWN]


def _nanoseconds(seconds: float) -> int:
    """Never negative: the wall clock may be set back while a request runs."""
    return max(0, round(seconds * NANOSECONDS))
