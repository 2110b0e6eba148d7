"""A runtime that can be told to misbehave: an Ollama, or an OpenAI-compatible server, without a model behind it.

    python tests/doubles/fake_runtime.py --port 0 --kind openai --models a,b --tokens 16 --delay 0.01

prints one line `{"port": ...}` once it listens and ends on SIGTERM, or when the pipe at its standard input is closed.
Every answer is `tokens` words long. `POST /_control` with `Faults` sets what goes wrong from then on, `GET /_control`
returns `Counters`, `POST /_models` with a list changes the models it has, and none of them is counted. In the same
process: `async with FakeRuntime(Options()) as fake: ...`.
"""

import argparse
import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal, Self

import msgspec
from aiohttp import web

Kind = Literal["both", "openai", "ollama"]
Json = dict[str, Any]

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
BIG = 1 << 28  # larger bodies than the gateway lets through
NOT_HTTP = b"\x16\x03\x01 this is not HTTP\r\n\r\n"
EPOCH = "2026-01-01T00:00:00Z"
BORN = 1767225600  # the same moment in seconds


class Options(msgspec.Struct, kw_only=True):
    """What the server is. Times in seconds; `slots` 0: no limit; over the limit it answers `busy`, with Retry-After."""

    kind: Kind = "both"  # openai: no /api, no /v1/messages; ollama: everything, as the real one; both: likewise
    models: list[str] = msgspec.field(default_factory=lambda: ["fake"])
    unloaded: list[str] = []  # those of them that are not in memory
    tokens: int = 16
    delay: float = 0.0  # before each token
    first_delay: float = 0.0  # before the first token
    slots: int = 0
    busy: int = 503
    host: str = "127.0.0.1"
    port: int = 0


class Faults(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What goes wrong, with inference unless said otherwise. `times`: for so many requests, 0: until told otherwise."""

    only: str = ""  # for this model; the others are well
    status: int = 0  # answered instead of 200
    retry_after: int = 0  # with that status, in seconds: it is just busy
    hang: bool = False  # the request is read, nothing is answered
    hang_all: bool = False  # likewise, on every path
    cut_after: int | None = None  # the connection is lost after so many tokens
    refuse: bool = False  # on every path the connection is reset at once
    close_before_first_byte: bool = False  # the request is read, then the connection is closed
    close_delimited: bool = False  # neither length nor chunks: the answer ends where the connection does
    close_after_answer: bool = False  # keep-alive is announced, and the connection closed nevertheless (llama.cpp)
    garbage: bool = False  # something that is not HTTP
    times: int = 0

    def take(self, model: str = "") -> "Faults":
        """The faults of one request that comes now."""
        if self.only and self.only != model:
            return Faults()
        now = msgspec.structs.replace(self)
        if self.times:
            self.times -= 1
            if not self.times:
                self.clear()
        return now

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        for field, default in msgspec.structs.asdict(Faults()).items():
            setattr(self, field, default)


class Seen(msgspec.Struct):
    """A request as it arrived. Header names in lower case; `body` is base64 in JSON."""

    method: str = ""
    path: str = ""
    headers: dict[str, str] = {}
    body: bytes = b""


class Counters(msgspec.Struct):
    """What happened to inference requests; `paths` counts the others too.

    `peak` is how many were worked for at once: whose first word is due, and whose client is there.
    """

    requests: int = 0
    in_flight: int = 0
    peak: int = 0
    done: int = 0
    cancelled: int = 0
    refused: int = 0
    connections: int = 0
    paths: dict[str, int] = {}
    last: Seen = msgspec.field(default_factory=Seen)


class Ask(msgspec.Struct):
    """What this server reads of a request."""

    model: str = ""
    stream: bool | None = None
    stream_options: Json = {}
    max_tokens: int | None = None
    input: Any = None
    prompt: Any = None


class CutError(Exception):
    """The connection is to be lost now."""


class FakeRuntime:
    """The server. `options` and `faults` may be changed while it runs."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.faults = Faults()
        self.counters = Counters()
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._callers: set[tuple[str, int]] = set()
        self._at_work = 0

    @property
    def url(self) -> str:
        return f"http://{self.options.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> int:
        """Listen; return the port."""
        app = web.Application(client_max_size=BIG, middlewares=[self._first])
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.options.host, self.options.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self.port

    async def stop(self) -> None:
        """Stop listening and cut what is under way."""
        if self._runner is not None:
            await self._runner.cleanup()

    # -- requests

    @web.middleware
    async def _first(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.path == "/_control":
            return await self._control(request)
        if request.path == "/_models":
            self.options.models = msgspec.json.decode(await request.read(), type=list[str])
            return _json(self.options.models)
        self._count_connection(request)
        self.counters.paths[request.path] = self.counters.paths.get(request.path, 0) + 1
        if self.faults.refuse:
            self.faults.take()
            return _lose(request)
        if self.faults.hang_all:
            self.faults.take()
            await asyncio.Event().wait()
        return await handler(request)

    def _count_connection(self, request: web.Request) -> None:
        if request.transport is not None:
            self._callers.add(request.transport.get_extra_info("peername"))
            self.counters.connections = len(self._callers)

    async def _control(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            self.faults = msgspec.json.decode(await request.read() or b"{}", type=Faults)
        return _json(self.counters)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        speak = _ANSWERS.get(request.path)
        if speak is None or not _offered(request.path, self.options.kind):
            return self._list(request)
        if request.method != "POST":
            return web.Response(status=405, text="405 method not allowed")
        return await self._counted(request, speak)

    async def _counted(self, request: web.Request, speak: "Speaker") -> web.StreamResponse:
        counters = self.counters
        body = await request.read()
        counters.last = Seen(request.method, request.path_qs, {k.lower(): v for k, v in request.headers.items()}, body)
        counters.requests += 1
        counters.in_flight += 1
        try:
            response = await self._infer(request, body, speak)
        except (asyncio.CancelledError, ConnectionError):
            counters.cancelled += 1
            raise
        finally:
            counters.in_flight -= 1
        counters.done += 1
        return response

    async def _infer(self, request: web.Request, body: bytes, speak: "Speaker") -> web.StreamResponse:
        faults = self.faults.take(_model_of(body))
        shape = _shape_of(request.path)
        if self.options.slots and self.counters.in_flight > self.options.slots:
            self.counters.refused += 1
            return _error(shape, self.options.busy, "all slots are busy", {"Retry-After": "1"})
        if faults.status:
            headers = {"Retry-After": str(faults.retry_after)} if faults.retry_after else None
            return _error(shape, faults.status, "told to fail", headers)
        if faults.hang:
            await asyncio.Event().wait()
        if faults.close_before_first_byte or faults.garbage:
            return _close(request, NOT_HTTP if faults.garbage else b"")
        return await self._read(request, body, speak, faults)

    async def _read(self, request: web.Request, body: bytes, speak: "Speaker", faults: Faults) -> web.StreamResponse:
        shape = _shape_of(request.path)
        try:
            ask = msgspec.json.decode(body, type=Ask)
        except msgspec.DecodeError as error:
            return _error(shape, 400, str(error))
        if ask.model not in self.options.models:
            return _error(shape, 404, f"model '{ask.model}' not found")
        return await self._speak(request, ask, speak, faults)

    async def _speak(self, request: web.Request, ask: Ask, speak: "Speaker", faults: Faults) -> web.StreamResponse:
        streams = ask.stream if ask.stream is not None else request.path in ("/api/chat", "/api/generate")
        if "embed" in request.path:
            return _json(speak(ask, []).whole)
        if not streams:
            try:
                words = [word async for word in self._words(ask, faults)]
            except CutError:
                return _lose(request)
            answer = msgspec.json.encode(speak(ask, words).whole)
            return await _send(request, faults, "application/json", _once(answer))
        kind = "application/x-ndjson" if request.path.startswith("/api/") else "text/event-stream"
        return await _send(request, faults, kind, self._stream(ask, speak, faults))

    async def _words(self, ask: Ask, faults: Faults) -> AsyncIterator[str]:
        options = self.options
        await asyncio.sleep(options.first_delay)  # noqa: TID251 - the time that a real runtime takes
        self._at_work += 1
        self.counters.peak = max(self.counters.peak, self._at_work)
        try:
            for i in range(min(options.tokens, ask.max_tokens or options.tokens)):
                if faults.cut_after is not None and i >= faults.cut_after:
                    raise CutError
                await asyncio.sleep(options.delay)  # noqa: TID251 - as above
                yield WORDS[i % len(WORDS)] + " "
        finally:
            self._at_work -= 1

    async def _stream(self, ask: Ask, speak: "Speaker", faults: Faults) -> AsyncIterator[bytes]:
        said: list[str] = []
        for piece in speak(ask, said).opening:
            yield piece
        async for word in self._words(ask, faults):
            said.append(word)
            yield speak(ask, said).record
        for piece in speak(ask, said).closing:
            yield piece

    # -- everything that is not inference

    def _list(self, request: web.Request) -> web.Response:
        models, unloaded = self.options.models, self.options.unloaded
        entries = [{"id": m, "object": "model", "created": BORN, "owned_by": "library"} for m in models]
        lists: dict[str, Json] = {"/v1/models": {"object": "list", "data": entries}, "/health": {"status": "ok"}}
        if self.options.kind != "openai":
            running = [_ollama_model(m) | {"expires_at": EPOCH, "size_vram": 0} for m in models if m not in unloaded]
            lists["/api/version"] = {"version": "0.12.0"}
            lists["/api/tags"] = {"models": [_ollama_model(m) for m in models]}
            lists["/api/ps"] = {"models": running}
            if request.path == "/":
                return web.Response(text="Ollama is running")
        answer = lists.get(request.path)
        return _json(answer) if answer else web.Response(status=404, text="404 page not found")


# -- what goes over the connection


async def _send(
    request: web.Request, faults: Faults, content_type: str, pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    if faults.close_delimited:
        return await _send_until_close(request, content_type, pieces)
    response = web.StreamResponse(headers={"Content-Type": content_type})
    await response.prepare(request)
    try:
        async for piece in pieces:
            await response.write(piece)
    except CutError:
        return _lose(request)
    await response.write_eof()
    if faults.close_after_answer and request.transport is not None:
        request.transport.close()
    return response


async def _send_until_close(
    request: web.Request, content_type: str, pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    transport = request.transport
    if not isinstance(transport, asyncio.Transport):  # the client has left
        return web.Response()
    transport.write(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n".encode())
    with suppress(CutError):
        async for piece in pieces:
            transport.write(piece)
    return _close(request)


def _lose(request: web.Request) -> web.Response:
    if isinstance(request.transport, asyncio.Transport):
        request.transport.abort()
    return web.Response()


def _close(request: web.Request, last_words: bytes = b"") -> web.Response:
    if isinstance(request.transport, asyncio.Transport):
        request.transport.write(last_words)
        request.transport.close()
    return web.Response()


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _error(shape: str, status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    detail = {"message": message, "type": "api_error"}
    bodies: dict[str, Json] = {
        "ollama": {"error": message},
        "openai": {"error": detail},
        "anthropic": {"type": "error", "error": detail},
    }
    return _json(bodies[shape], status, headers)


def _model_of(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=Ask).model
    except msgspec.DecodeError:
        return ""


def _shape_of(path: str) -> str:
    if path.startswith("/api/"):
        return "ollama"
    return "anthropic" if path == "/v1/messages" else "openai"


def _offered(path: str, kind: Kind) -> bool:
    return kind != "openai" or _shape_of(path) == "openai"


def _ollama_model(name: str) -> Json:
    details = {"format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "1B"}
    details |= {"parent_model": "", "quantization_level": "Q4_0"}
    return {"name": name, "model": name, "modified_at": EPOCH, "size": 1000, "digest": "0" * 64, "details": details}


# -- the dialects: what is said after the words so far


class Say(msgspec.Struct):
    """`whole` answers a request that does not stream; a stream is `opening`, one `record` per word, `closing`."""

    whole: Json
    record: bytes = b""
    opening: list[bytes] = []
    closing: list[bytes] = []


Speaker = Callable[[Ask, list[str]], Say]
PROMPT_TOKENS = 7


def _ndjson(record: Json) -> bytes:
    return msgspec.json.encode(record) + b"\n"


def _sse(record: Json, event: str = "") -> bytes:
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + msgspec.json.encode(record) + b"\n\n"


def _ollama(ask: Ask, words: list[str], put: Callable[[str], Json]) -> Say:
    base: Json = {"model": ask.model, "created_at": EPOCH}
    counts = {
        "done": True,
        "done_reason": "stop",
        "total_duration": 1_000_000 * (len(words) + PROMPT_TOKENS),
        "load_duration": 0,
        "prompt_eval_count": PROMPT_TOKENS,
        "prompt_eval_duration": 1_000_000 * PROMPT_TOKENS,
        "eval_count": len(words),
        "eval_duration": 1_000_000 * len(words),
    }
    last = base | put("") | counts
    record = base | put(words[-1] if words else "") | {"done": False}
    return Say(base | put("".join(words)) | counts, _ndjson(record), closing=[_ndjson(last)])


def _ollama_chat(ask: Ask, words: list[str]) -> Say:
    return _ollama(ask, words, lambda text: {"message": {"role": "assistant", "content": text}})


def _ollama_generate(ask: Ask, words: list[str]) -> Say:
    return _ollama(ask, words, lambda text: {"response": text})


def _ollama_embed(ask: Ask, _: list[str]) -> Say:
    vectors = [_vector(i) for i in range(_inputs(ask))]
    times = {"total_duration": 1_000_000, "load_duration": 0, "prompt_eval_count": PROMPT_TOKENS}
    return Say({"model": ask.model, "embeddings": vectors} | times)


def _ollama_embeddings(_ask: Ask, _: list[str]) -> Say:
    return Say({"embedding": _vector(0)})


def _vector(seed: int) -> list[float]:
    return [seed + 0.5, -0.25, 0.125]


def _inputs(ask: Ask) -> int:
    return len(ask.input) if isinstance(ask.input, list) else 1


def _openai_usage(words: list[str]) -> Json:
    total = PROMPT_TOKENS + len(words)
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(words), "total_tokens": total}


def _openai(ask: Ask, words: list[str], name: str, put: Callable[[str, str], Json]) -> Say:
    kind = {"chat.completion": "chat.completion.chunk"}.get(name, name)
    base: Json = {"id": "cmpl-fake", "object": name, "created": BORN, "model": ask.model}
    finished = {"index": 0, "finish_reason": "stop"}
    whole = base | {"choices": [put("message", "".join(words)) | finished], "usage": _openai_usage(words)}
    base = base | {"object": kind}
    record = base | {"choices": [put("delta", words[-1] if words else "") | {"index": 0, "finish_reason": None}]}
    closing = [_sse(base | {"choices": [put("delta", "") | finished]})]
    if ask.stream_options.get("include_usage"):
        closing.append(_sse(base | {"choices": [], "usage": _openai_usage(words)}))
    return Say(whole, _sse(record), closing=[*closing, b"data: [DONE]\n\n"])


def _openai_chat(ask: Ask, words: list[str]) -> Say:
    return _openai(ask, words, "chat.completion", lambda key, text: {key: {"role": "assistant", "content": text}})


def _openai_completion(ask: Ask, words: list[str]) -> Say:
    return _openai(ask, words, "text_completion", lambda _, text: {"text": text, "logprobs": None})


def _openai_embeddings(ask: Ask, _: list[str]) -> Say:
    data = [{"object": "embedding", "index": i, "embedding": _vector(i)} for i in range(_inputs(ask))]
    usage = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}
    return Say({"object": "list", "data": data, "model": ask.model, "usage": usage})


def _openai_response(ask: Ask, words: list[str]) -> Say:
    content = {"type": "output_text", "text": "".join(words), "annotations": []}
    message = {"type": "message", "id": "msg_fake", "role": "assistant", "status": "completed", "content": [content]}
    usage = {
        "input_tokens": PROMPT_TOKENS,
        "output_tokens": len(words),
        "total_tokens": PROMPT_TOKENS + len(words),
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    base = {"id": "resp_fake", "object": "response", "created_at": BORN, "model": ask.model, "tools": []}
    base |= {"parallel_tool_calls": True, "tool_choice": "auto"}
    whole = base | {"status": "completed", "output": [message], "usage": usage}
    delta = {
        "type": "response.output_text.delta",
        "item_id": "msg_fake",
        "output_index": 0,
        "content_index": 0,
        "delta": words[-1] if words else "",
        "logprobs": [],
        "sequence_number": len(words),
    }
    created = {"type": "response.created", "response": base | {"status": "in_progress", "output": []}}
    done = {"type": "response.completed", "response": whole, "sequence_number": len(words) + 1}
    return Say(
        whole,
        _sse(delta, "response.output_text.delta"),
        [_sse(created | {"sequence_number": 0}, "response.created")],
        [_sse(done, "response.completed")],
    )


def _anthropic(ask: Ask, words: list[str]) -> Say:
    usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": len(words)}
    base: Json = {"id": "msg_fake", "type": "message", "role": "assistant", "model": ask.model, "stop_sequence": None}
    whole = base | {
        "content": [{"type": "text", "text": "".join(words)}],
        "stop_reason": "end_turn",
        "usage": usage,
    }
    empty = base | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 0}}
    block = {"type": "text", "text": ""}
    text = {"type": "text_delta", "text": words[-1] if words else ""}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    return Say(
        whole,
        _event("content_block_delta", index=0, delta=text),
        [_event("message_start", message=empty), _event("content_block_start", index=0, content_block=block)],
        [
            _event("content_block_stop", index=0),
            _event("message_delta", delta=end, usage={"output_tokens": len(words)}),
            _event("message_stop"),
        ],
    )


def _event(kind: str, **fields: object) -> bytes:
    return _sse({"type": kind} | fields, kind)


_ANSWERS: dict[str, Speaker] = {
    "/api/chat": _ollama_chat,
    "/api/generate": _ollama_generate,
    "/api/embed": _ollama_embed,
    "/api/embeddings": _ollama_embeddings,
    "/v1/chat/completions": _openai_chat,
    "/v1/completions": _openai_completion,
    "/v1/embeddings": _openai_embeddings,
    "/v1/responses": _openai_response,
    "/v1/messages": _anthropic,
}


# -- as a program


def options_from(arguments: list[str]) -> Options:
    """Every field of `Options` is an option of the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in msgspec.structs.asdict(Options()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=_list if isinstance(default, list) else type(default))
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    return msgspec.convert(given, Options)


def _list(text: str) -> list[str]:
    return text.split(",")


async def serve(options: Options) -> None:
    """Run until SIGTERM, or until whoever started this closes its end of the pipe."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with FakeRuntime(options) as fake:
        sys.stdout.write(f'{{"port": {fake.port}}}\n')
        sys.stdout.flush()
        watching = loop.create_task(_end_with_parent(ended))
        await ended.wait()
        watching.cancel()


async def _end_with_parent(ended: asyncio.Event) -> None:
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):  # a terminal or /dev/null says nothing about who is there
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()
        ended.set()


if __name__ == "__main__":
    asyncio.run(serve(options_from(sys.argv[1:])))
