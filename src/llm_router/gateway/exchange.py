"""A request on its way to one upstream, and the answer on its way back: steps 7 and 8 of `inference.py`.

As it stands it takes a request to the control app, as to any upstream; `Inference` adds what routing needs.

Exchanges and what they are made of are msgspec's structs: one is made for every request, and theirs are made in C.
"""

import asyncio
from collections.abc import Coroutine
from time import time
from typing import ClassVar, Protocol

import msgspec
import structlog

from llm_router.contract import Address
from llm_router.core.usage import Outcome
from llm_router.errors import ClientError, RouterError, ShuttingDown, UpstreamError, UpstreamFailed
from llm_router.gateway.control import CLIENT, SECRET, WHO
from llm_router.gateway.delivery import DROP, Delivery, Reframed, Relay
from llm_router.gateway.guard import Grant
from llm_router.gateway.plane import DataPlane
from llm_router.gateway.upstream import Upstream
from llm_router.wire.dialects import dialect_of
from llm_router.wire.dialects.base import Dialect
from llm_router.wire.http1 import (
    CLOSE,
    REWRITTEN,
    DecodedResponseReader,
    Request,
    ResponseReader,
    request_head,
    response_head,
)
from llm_router.wire.translate import Translation

OURS = REWRITTEN | {CLIENT, SECRET, WHO}  # headers of a client that do not travel on to the control app
LARGE = 64 * 1024  # bytes of a body that is not copied to stand behind its head

NOT_YET = ResponseReader()  # of an answer that nobody has been asked for

log = structlog.get_logger()


class Caller(Protocol):
    """What an exchange needs of the client's connection."""

    host: str
    grant: Grant
    known_as: str  # in the history: its address, and whose key it showed
    transport: asyncio.Transport
    cors: bytes  # header lines for every answer to the request, where a web page sent it

    def write(self, data: bytes) -> None:
        """Write a piece of the answer."""

    def send(self, data: bytes) -> None:
        """Have a whole answer written soon."""

    def write_error(self, error: RouterError, dialect: Dialect, extra: bytes, *, head_only: bool = False) -> None:
        """An error of ours as a whole response; its head alone where HEAD was asked."""

    def exchange_over(self, *, keep: bool) -> None:
        """The answer is written. `keep`: the connection may carry another request."""


class Exchange(msgspec.Struct, eq=False):
    """One request; made when it is complete, and over when `_close` was called.

    `holds_head`: the client gets the head with the first byte of the body; until then another upstream can take over.
    `second_thoughts`: statuses of answers that may not be the last word.
    """

    holds_head: ClassVar[bool] = False
    second_thoughts: ClassVar[frozenset[int]] = frozenset()

    _plane: DataPlane
    _client: Caller
    _request: Request
    id: bytes
    _reader: ResponseReader
    _upstream: Upstream | None = None
    _delivery: Delivery | None = None
    _received: bool = False  # anything at all on the present connection
    _task: asyncio.Task[None] | None = None
    _over: bool = False
    _streams: bool = False  # tokens are waited for, one by one
    _said: bytes = b""  # header lines of an override's in every response

    def begin(self) -> None:
        """Send it on its way."""
        self._open(self._plane.control)

    def cancel(self) -> None:
        """The client went away (requirement B6)."""
        self._close("cancelled", 499)  # nginx' word for it

    def cut(self, error: RouterError) -> None:
        """There is no more time for it: the client is told, in a stream that has begun as well as it can be."""
        self._drop()
        if self._task is not None:
            self._task.cancel()
        if self._delivery is not None and self._delivery.started:
            self._break(error)
        else:
            self._refuse(error)

    def sweep(self, now: float) -> None:
        """Once a second; an override looks whether this has taken too long."""

    def pause(self) -> None:
        """The client reads slower than the upstream writes."""
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume(self) -> None:
        """The client has caught up."""
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    def upstream_full(self, *, full: bool) -> None:
        """The upstream reads slower than it is written to, or has caught up; an override has more to write."""

    # -- 7: a connection

    def _open(self, address: Address) -> None:
        upstream = self._plane.pool.take(address)
        if upstream is not None:
            self._send(upstream)
        else:
            self._start(self._connect(address))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._task = self._plane.loop.create_task(work)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task of ours that fails in a way nobody foresaw must not leave its client waiting for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("exchange.task_failed", exc_info=error)
            self._failed(UpstreamFailed(f"an error inside the router: {error!r}"))

    async def _connect(self, address: Address) -> None:
        try:
            upstream = await self._plane.pool.connect(address)
        except UpstreamError as error:
            self._failed(error)
        else:
            self._send(upstream)

    def _send(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = False
        self._reader, head, body = self._prepare(upstream.address)
        upstream.receiver = self
        upstream.receive = self._receive
        if len(body) >= LARGE:
            upstream.transport.writelines((head, body))
        elif self._streams:
            upstream.transport.write(head + body)
        else:
            self._plane.send(upstream.transport, head + body)

    def _prepare(self, address: Address) -> tuple[ResponseReader, bytes, bytes]:  # noqa: ARG002 - an override needs it
        """What reads the answer, and head and body of the request to an upstream."""
        head, body, plane = self._request.head, self._request.body, self._plane
        kind = DecodedResponseReader if head.http10 else ResponseReader
        reader = kind(_head_only=head.method == b"HEAD")
        host, extra = head.host or b"localhost", self._known() + plane.control_headers
        return reader, request_head(head, head.target, host, len(body), OURS, extra), body

    def _known(self) -> bytes:
        """Header lines that tell the control app who asks."""
        client = self._client
        host, who = client.host.encode(), client.grant.line().encode()
        return b"x-request-id: %b\r\n%b: %b\r\n%b: %b\r\n" % (self.id, CLIENT, host, WHO, who)

    # -- 8: the answer

    def _receive(self, data: bytes) -> None:
        """Bytes of the answer came."""
        self._received = True
        reader = self._reader
        try:
            body = reader.feed(data)
            delivery = self._delivery
            if delivery is None:
                if not reader.status:
                    return
                if reader.complete and type(reader) is ResponseReader and reader.status not in self.second_thoughts:
                    self._pass_whole(reader, body)  # in one piece, as nearly every one that is no stream
                    self._done()
                    return
                delivery = self._delivery = self._choose()
                if delivery is None:
                    return
            if body or not self.holds_head:
                self._deliver(delivery, body)
            if reader.complete:
                delivery.end()
        except UpstreamError as error:
            self._drop()
            self._failed(error)
        else:
            if reader.complete:
                self._done()

    def upstream_lost(self, error: Exception | None) -> None:
        """The connection is gone: the end of some answers, a failure of the others."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None and upstream.reused and not self._received:
            # It was closed while it lay idle; that says nothing about the node (RFC 9112 §9.3.1).
            self._start(self._connect(upstream.address))
            return
        try:
            if error is not None:  # a reset ends nothing, not even a body that lasts until the end (RFC 9112 §8)
                raise UpstreamFailed(f"its connection broke: {error}")
            self._reader.eof()
            if self._delivery is not None:
                self._delivery.end()
        except UpstreamError as failure:
            self._failed(failure)
        else:
            self._done()

    def _pass_whole(self, reader: ResponseReader, body: bytes) -> None:
        head = response_head(reader.status, reader.head.lines(DROP), reader.framing, reader.length, self._extra())
        self._client.send(head + body)

    def _choose(self) -> Delivery | None:
        """The head is there: how its body shall pass. None: it shall not, and that has been seen to."""
        reader = self._reader
        if reader.framing is CLOSE or self._request.head.http10:
            return self._reframed(reader.status, reader.head.lines(DROP))
        return Relay(self._client.write, reader, self._extra())

    def _deliver(self, delivery: Delivery, body: bytes) -> None:
        """Bytes of the body came; an override keeps the last of them."""
        delivery.feed(body)

    def _reframed(self, status: int, lines: bytes, translation: Translation | None = None) -> Reframed:
        chunked = not self._request.head.http10
        if not chunked:
            self._request.keep_alive = False
        return Reframed(
            self._client.write,
            status,
            lines,
            self._extra(),
            chunked=chunked,
            convert=(lambda body: translation.feed(body, time())) if translation else None,
            finish=(lambda: translation.end(time())) if translation else None,
        )

    def _extra(self) -> bytes:
        """Header lines of ours in every response."""
        request = self._request
        lines = b"x-request-id: %b\r\n%b%b" % (self.id, self._client.cors, self._said)
        if not request.keep_alive or self._plane.draining:
            request.keep_alive = False
            return lines + b"connection: close\r\n"
        return lines + b"connection: keep-alive\r\n" if request.head.http10 else lines

    # -- 10: the end

    def _done(self) -> None:
        reader = self._reader
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            if reader.keep_alive:
                upstream.keep()
            else:
                upstream.drop()
        self._close("done", reader.status)

    def _failed(self, error: RouterError) -> None:
        if self._delivery is not None and self._delivery.started:
            self._break(error)
        else:
            self._refuse(error)

    def _break(self, error: RouterError) -> None:  # noqa: ARG002 - an override tells the client
        """The message is left unfinished, so that nobody takes it for a complete one."""
        self._request.keep_alive = False
        self._close("broken", self._reader.status)

    def _refuse(self, error: RouterError) -> None:
        """Answer with an error of ours, in the caller's dialect."""
        if isinstance(error, ShuttingDown):
            self._request.keep_alive = False
        extra = self._extra() + error.lines
        if error.retry_after:
            extra += b"retry-after: %d\r\n" % error.retry_after
        head = self._request.head
        self._client.write_error(error, dialect_of(head.path), extra, head_only=head.method == b"HEAD")
        self._close("refused" if isinstance(error, ClientError) else "failed", error.status)

    def _drop(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.drop()

    def _close(self, outcome: Outcome, status: int) -> None:
        """The one place that every exchange passes, once."""
        if self._over:
            return
        self._over = True
        if self._upstream is not None:
            self._drop()
        if self._task is not None and outcome == "cancelled":
            self._task.cancel()
        self._settle(outcome, status)
        self._client.exchange_over(keep=self._request.keep_alive)

    def _settle(self, outcome: Outcome, status: int) -> None:
        """What an override owes to others when it is over."""
