"""Clients under load, good and bad: each does with its request what its `Plan` says, and tells how it ended.

Raw sockets and a parser in C, so that some thousand requests per second come from one process and a router is what is
measured. Whoever has a connection left keeps it for the next one, as client libraries do.

Rule 1: no lots are drawn here; whoever makes the plans has the dice.
Rule 2: what a client gets is looked at as a client would: a status, a body and where it broke, tokens.
"""

import asyncio
import socket
import struct
import time
from collections import deque
from typing import Literal, NamedTuple

import httptools
import msgspec
from tests.doubles.rough_upstream import WORD, Behaviour

Api = Literal["ollama", "openai", "anthropic"]
Leaving = Literal["", "in the head", "in the body", "waiting", "reading"]
Kind = Literal["answered", "left", "refused", "broken", "lost", "wrong"]

PATH: dict[Api, str] = {"ollama": "/api/chat", "openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
LAST: dict[Api, bytes] = {"ollama": b'"done":true', "openai": b"data: [DONE]", "anthropic": b'"message_stop"'}
BUSY = frozenset({429, 500, 502, 503, 504})  # what a router may say of a node that is broken, or has too much to do
TAIL = 2048  # bytes of a long answer that are looked at: its last records, an error among them
SHORT = 128 * 1024  # bytes of an answer of which every token is counted
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing drops what was not sent, and says so with a reset


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a client does. `size`: bytes of its prompt; `turns`: messages in it; `behaviour`: what it provokes upstream.

    `leaves`: when it does; `patience`: seconds it waits before; `resets`: without a word; `rests`: seconds in which it
    does not read, once an answer has begun; `fresh`: on a connection of its own, which it closes then.
    """

    id: str
    api: Api = "openai"
    model: str = "steady"
    stream: bool = False
    behaviour: Behaviour = Behaviour()
    size: int = 100
    turns: int = 1
    leaves: Leaving = ""
    patience: float = 0.0
    resets: bool = False
    rests: float = 0.0
    fresh: bool = False

    def head(self, length: int) -> bytes:
        lines = (
            f"POST {PATH[self.api]} HTTP/1.1",
            "Host: localhost",
            f"X-Request-Id: {self.id}",
            f"X-Behave: {msgspec.json.encode(self.behaviour).decode()}",
            f"Content-Length: {length}",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def body(self) -> bytes:
        says = b"x" * (self.size // self.turns)
        roles = [b"assistant" if (self.turns - i) % 2 == 0 else b"user" for i in range(self.turns)]
        messages = b",".join(b'{"role":"%b","content":"%b"}' % (role, says) for role in roles)
        stream = b"true" if self.stream else b"false"
        form = b'{"model":"%b","stream":%b,"max_tokens":100,"messages":[%b]}'
        return form % (self.model.encode(), stream, messages)


class Answer(msgspec.Struct):
    """What came. `body`: all of it when it is SHORT, else its last bytes; `whole`: its end has come.

    `began`: when its first byte came, by `time.monotonic`: uvloop's own clock knows milliseconds only.
    """

    began: float = 0.0
    status: int = 0
    length: int = 0
    body: bytes = b""
    whole: bool = False


class Ending(NamedTuple):
    """How a request ended for its client; `why`: what it got, where that was no answer.

    `began`: when an answer's first byte came, by `time.monotonic`.
    """

    kind: Kind
    why: str = ""
    began: float = 0.0


class Line(asyncio.Protocol):
    """A connection. `answer` is the one to the last request, `over` is done when nothing more comes of it.

    `gone` is done when the connection is.
    """

    def __init__(self) -> None:
        self.answer = Answer()
        self.kept = True
        self.transport: asyncio.Transport
        self._rests = 0.0
        self._parser: httptools.HttpResponseParser
        self.begun: asyncio.Future[None]
        self.over: asyncio.Future[None]
        self.gone = asyncio.get_running_loop().create_future()

    def expect(self, rests: float = 0.0) -> None:
        """A request is about to be sent."""
        loop = asyncio.get_running_loop()
        self.answer, self._rests = Answer(), rests
        self.begun, self.over = loop.create_future(), loop.create_future()
        self._parser = httptools.HttpResponseParser(self)

    def leave(self, *, resets: bool) -> None:
        if resets:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    # -- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # asyncio's types know no better
        self.expect()

    def data_received(self, data: bytes) -> None:
        if not self.begun.done():
            self.begun.set_result(None)
            self.answer.began = time.monotonic()
            self._rest()
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.gone.set_result(None)
        self._settle()

    def _rest(self) -> None:
        if self._rests:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(self._rests, self.wake)

    def wake(self) -> None:
        """Read again."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _settle(self) -> None:
        for future in (self.begun, self.over):
            if not future.done():
                future.set_result(None)

    # -- called by the parser

    def on_headers_complete(self) -> None:
        self.answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        answer = self.answer
        answer.length += len(body)
        answer.body = answer.body + body if answer.length <= SHORT else (answer.body + body)[-TAIL:]

    def on_message_complete(self) -> None:
        self.answer.whole = True
        self.kept = self._parser.should_keep_alive()
        self._settle()


class Clients:
    """All of them, before one router at `url`."""

    def __init__(self, url: str) -> None:
        self._host, self._port = url.removeprefix("http://").split(":")
        self._idle: deque[Line] = deque()

    async def ask(self, plan: Plan) -> Ending:
        """Make one request, and see how it ends."""
        try:
            line = await self._line(fresh=plan.fresh)
        except OSError as error:
            return Ending("lost", repr(error))
        line.expect(plan.rests)
        left = await self._through(line, plan)
        if left:
            line.leave(resets=plan.resets)
            return Ending("left")
        ending = ending_of(plan, line.answer)
        self._keep(line, fresh=plan.fresh)
        return ending

    async def begin(self, plan: Plan) -> Line:
        """Send a request on a connection of its own; the rest is the caller's to do."""
        line = await self._line(fresh=True)
        line.expect(plan.rests)
        body = plan.body()
        line.transport.write(plan.head(len(body)) + body)
        return line

    async def close(self) -> None:
        """Hang up, whoever has a connection left."""
        while self._idle:
            line = self._idle.pop()
            line.transport.abort()
            await line.gone

    async def _line(self, *, fresh: bool) -> Line:
        while self._idle and not fresh:
            line = self._idle.pop()
            if not line.transport.is_closing():
                return line
        _, line = await asyncio.get_running_loop().create_connection(Line, self._host, int(self._port))
        return line

    def _keep(self, line: Line, *, fresh: bool) -> None:
        if not fresh and line.answer.whole and line.kept and not line.transport.is_closing():
            self._idle.append(line)
        else:
            line.transport.abort()

    async def _through(self, line: Line, plan: Plan) -> bool:
        """Send, and wait for what the plan has the client wait for. Returns whether it leaves now."""
        body = plan.body()
        sent = plan.head(len(body)) + body
        if plan.leaves.startswith("in"):
            sent = sent[: len(sent) - len(body) - 10] if plan.leaves == "in the head" else sent[: -len(body) // 2]
        line.transport.write(sent)
        match plan.leaves:
            case "":
                await line.over
                return False
            case "reading":
                await line.begun
            case _:
                await asyncio.wait([line.over], timeout=plan.patience)
        return not line.over.done()


def ending_of(plan: Plan, answer: Answer) -> Ending:
    """How it ended for a client that stayed. `wrong`: in no way that docs/reference/api.md knows."""
    body = answer.body
    if not answer.status:
        return Ending("lost", "the connection ended without a word")
    if answer.status != 200:
        known = answer.whole and answer.status in BUSY and b'"error"' in body
        return Ending("refused" if known else "wrong", f"{answer.status} {body[:200]!r}")
    if not answer.whole:
        told = plan.stream and b'"error"' in body[-TAIL:]
        return Ending("broken" if told else "wrong", f"cut after {answer.length} bytes: {body[-200:]!r}")
    missing = _missing(plan, answer)
    return Ending("wrong", missing) if missing else Ending("answered", began=answer.began)


def _missing(plan: Plan, answer: Answer) -> str:
    """What an answer that seems whole lacks."""
    tokens = plan.behaviour.tokens
    if plan.stream and LAST[plan.api] not in answer.body[-TAIL:]:
        return f"no last record: {answer.body[-200:]!r}"
    if answer.length <= SHORT and answer.body.count(WORD.encode()) != tokens:
        return f"{answer.body.count(WORD.encode())} of {tokens} tokens"
    return f"{answer.length} bytes" if answer.length < tokens * plan.behaviour.size else ""
