"""A runtime under load: it answers as each request wants to be answered, well or badly, and costs little.

    python tests/doubles/rough_upstream.py --models steady,frail

prints one line `{"port": ...}` once it listens, on loopback, and ends on SIGTERM, or when the pipe at its standard
input is closed. A request's `X-Behave` header holds `Behaviour` as JSON: whoever asks provokes what goes wrong, this
program draws no lots. `fake_runtime.py` is the one that speaks every dialect in full; this one speaks of each what a
load needs. `GET /_seen` returns `Seen`.

Rule 1: an answer is an opening, a piece so many times, and a closing, whether it streams or not; one machine sends it.
Rule 2: nothing is written to a connection that is full, so that what an answer holds in memory is one block.
"""

import argparse
import asyncio
import os
import signal
import stat
import sys
from collections import Counter
from http import HTTPStatus
from typing import Any, Literal, NamedTuple

import httptools
import msgspec
import uvloop

BLOCK = 64 * 1024  # bytes that are written at once where nothing is to be waited for: asyncio's own high-water mark
Fault = Literal["", "500", "503", "busy", "cut"]
WORD = "word "  # what a token begins with; longer ones are filled up with dots
MODELS = b"@models"  # where the path of a list of models has the list
LISTS = {
    "/v1/models": b'{"object":"list","data":@models}',
    "/api/tags": b'{"models":@models}',
    "/api/ps": b'{"models":@models}',
    "/api/version": b'{"version":"0.12.0"}',
}


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one request is answered. `size`: bytes of a token's text; `delay`: seconds before each token.

    `fault`: a status without a word of why, `busy` 503 with Retry-After, `cut` the connection is lost half-way.
    `counted`: its x-request-id is kept, for `Seen.twice`.
    """

    tokens: int = 8
    size: int = len(WORD)
    delay: float = 0.0
    fault: Fault = ""
    counted: bool = False


class Seen(msgspec.Struct):
    """What there is now: `connections`, those `at_work`, and those `full`, since nobody reads what was sent.

    And what has been: answers to their end (`answered`); of the requests that wanted to be counted, how many ids were
    answered (`counted`), and which of them more than once (`twice`).
    """

    connections: int = 0
    at_work: int = 0
    full: int = 0
    answered: int = 0
    counted: int = 0
    twice: list[str] = []


class Speech(NamedTuple):
    """What an answer consists of, without framing; `kind` is its content type."""

    kind: str
    opening: bytes
    piece: bytes
    closing: bytes


# -- what is said


def _text(behaviour: Behaviour) -> str:
    return WORD.ljust(behaviour.size, ".")


def _ndjson(record: object) -> bytes:
    return msgspec.json.encode(record) + b"\n"


def _sse(record: dict[str, Any], *, named: bool = False) -> bytes:
    event = b"event: %b\n" % record["type"].encode() if named else b""
    return event + b"data: " + msgspec.json.encode(record) + b"\n\n"


def _split(whole: object) -> tuple[bytes, bytes]:
    """The JSON before and after the text of an answer in one piece; its place is marked with @."""
    before, _, after = msgspec.json.encode(whole).partition(b"@")
    return before, after


def _ollama(text: str, tokens: int) -> tuple[Speech, Speech]:
    base = {"model": "m", "created_at": "2026-01-01T00:00:00Z"}
    counts = {"done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": tokens}
    record = base | {"message": {"role": "assistant", "content": text}, "done": False}
    last = base | {"message": {"role": "assistant", "content": ""}} | counts
    before, after = _split(base | {"message": {"role": "assistant", "content": "@"}} | counts)
    return (
        Speech("application/json", before, text.encode(), after),
        Speech("application/x-ndjson", b"", _ndjson(record), _ndjson(last)),
    )


def _openai(text: str, tokens: int) -> tuple[Speech, Speech]:
    base = {"id": "c", "created": 1767225600, "model": "m"}
    usage = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
    chunk = base | {"object": "chat.completion.chunk"}
    message = {"index": 0, "message": {"role": "assistant", "content": "@"}, "finish_reason": "stop"}
    before, after = _split(base | {"object": "chat.completion", "choices": [message], "usage": usage})
    record = chunk | {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    last = chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
    return (
        Speech("application/json", before, text.encode(), after),
        Speech("text/event-stream", b"", _sse(record), _sse(last) + b"data: [DONE]\n\n"),
    )


def _anthropic(text: str, tokens: int) -> tuple[Speech, Speech]:
    usage = {"input_tokens": 7, "output_tokens": tokens}
    base = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None, "usage": usage}
    before, after = _split(base | {"content": [{"type": "text", "text": "@"}], "stop_reason": "end_turn"})
    opening: list[dict[str, Any]] = [
        {"type": "message_start", "message": base | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    closing: list[dict[str, Any]] = [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return (
        Speech("application/json", before, text.encode(), after),
        Speech(
            "text/event-stream",
            b"".join(_sse(r, named=True) for r in opening),
            _sse(delta, named=True),
            b"".join(_sse(r, named=True) for r in closing),
        ),
    )


SPEAKERS = {"/api/chat": _ollama, "/v1/chat/completions": _openai, "/v1/messages": _anthropic}


# -- over the connection


class Ask(msgspec.Struct):
    """What is read of a request. The Ollama API streams unless told otherwise."""

    stream: bool | None = None


class House:
    """What all connections share."""

    def __init__(self, models: list[str]) -> None:
        self.seen = Seen()
        self.ids: Counter[str] = Counter()
        entries = [{"id": m, "object": "model", "name": m, "model": m, "size": 1, "digest": "0" * 64} for m in models]
        self.models = msgspec.json.encode(entries)

    def report(self) -> bytes:
        self.seen.counted = len(self.ids)
        self.seen.twice = [i for i, n in self.ids.items() if n > 1]
        return msgspec.json.encode(self.seen)


class Connection(asyncio.Protocol):
    """One connection of the router's; one request at a time."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._parser = httptools.HttpRequestParser(self)
        self._full = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing: bytes | None = None  # what is still to follow the pieces of an answer that has begun
        self._transport: asyncio.Transport
        self._clear()

    def _clear(self) -> None:
        self._path = ""  # it may come in parts
        self._works = False
        self._id = ""
        self._behaviour = Behaviour()
        self._body: list[bytes] = []
        self._piece = b""
        self._left = self._cut_at = 0

    # -- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio's types know no better
        self._house.seen.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._house.seen.connections -= 1
        self._house.seen.full -= self._full
        self._over()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def pause_writing(self) -> None:
        self._full = True
        self._house.seen.full += 1

    def resume_writing(self) -> None:
        self._full = False
        self._house.seen.full -= 1
        if self._closing is not None and self._timer is None:
            self._go_on()

    # -- called by the parser

    def on_url(self, url: bytes) -> None:
        self._path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"x-behave":
                self._behaviour = msgspec.json.decode(value, type=Behaviour)
            case b"x-request-id":
                self._id = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._path in SPEAKERS:
            self._infer()
        else:
            self._list()

    # -- answers

    def _list(self) -> None:
        body = self._house.report() if self._path == "/_seen" else LISTS.get(self._path, b"")
        status = 200 if body else 404
        self._transport.write(_head(status, "application/json", body.replace(MODELS, self._house.models)))
        self._clear()

    def _infer(self) -> None:
        fault = self._behaviour.fault
        self._works = True
        self._house.seen.at_work += 1
        if fault in ("", "cut"):
            self._speak()
            return
        status, more = (503, "Retry-After: 1\r\n") if fault == "busy" else (int(fault), "")
        self._transport.write(_head(status, "application/json", b'{"error":"as you wish"}', more))
        self._finished()

    def _speak(self) -> None:
        behaviour = self._behaviour
        asked = msgspec.json.decode(b"".join(self._body), type=Ask).stream
        streams = self._path.startswith("/api/") if asked is None else asked
        speech = SPEAKERS[self._path](_text(behaviour), behaviour.tokens)[streams]
        self._left = behaviour.tokens
        self._cut_at = behaviour.tokens // 2 if behaviour.fault == "cut" else -1
        self._piece, self._closing = speech.piece, speech.closing
        framing = "Transfer-Encoding: chunked"
        if streams:
            self._piece, self._closing = _chunk(speech.piece), _chunk(speech.closing) + b"0\r\n\r\n"
        else:
            length = len(speech.opening) + self._left * len(speech.piece) + len(speech.closing)
            framing = f"Content-Length: {length}"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {speech.kind}\r\n{framing}\r\n\r\n".encode()
        self._transport.write(head + (_chunk(speech.opening) if streams and speech.opening else speech.opening))
        self._wait()

    def _wait(self) -> None:
        if self._behaviour.delay:
            self._timer = asyncio.get_running_loop().call_later(self._behaviour.delay, self._go_on)
        else:
            self._go_on()

    def _go_on(self) -> None:
        """The next piece, or as many as go at once; then the closing."""
        self._timer = None
        while self._left > max(self._cut_at, 0) and not self._full:
            at_once = 1 if self._behaviour.delay else max(1, BLOCK // len(self._piece))
            n = min(at_once, self._left - max(self._cut_at, 0))
            self._left -= n
            self._transport.write(self._piece * n)
            if self._behaviour.delay:
                self._wait()
                return
        if self._left == self._cut_at:
            self._transport.abort()
        elif not self._left and self._closing is not None:
            self._transport.write(self._closing)
            self._finished()

    def _finished(self) -> None:
        self._house.seen.answered += 1
        if self._behaviour.counted:
            self._house.ids[self._id] += 1
        self._over()

    def _over(self) -> None:
        self._house.seen.at_work -= self._works
        self._closing = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._clear()


def _head(status: int, kind: str, body: bytes, more: str = "") -> bytes:
    reason = HTTPStatus(status).phrase
    lines = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return lines.encode() + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# -- as a program


async def serve(models: list[str], port: int) -> None:
    """Run until SIGTERM, or until whoever started this closes its end of the pipe."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    house = House(models)
    server = await loop.create_server(lambda: Connection(house), "127.0.0.1", port, backlog=1024)
    sys.stdout.write(f'{{"port": {server.sockets[0].getsockname()[1]}}}\n')
    sys.stdout.flush()
    watching = loop.create_task(_end_with_parent(ended))
    await ended.wait()
    watching.cancel()
    server.close()


async def _end_with_parent(ended: asyncio.Event) -> None:
    if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()
        ended.set()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--models", default="steady")
    options.add_argument("--port", type=int, default=0)
    given = options.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(given.models.split(","), given.port))
