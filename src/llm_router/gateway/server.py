"""The listener: connections of clients, their limits and time-outs.

IDLE  nothing yet, or between two requests    closed after idle_timeout
HEAD  within a head                           408 after head_timeout, however it trickles
BODY  within a body                           408 after body_timeout without a byte
an exchange under way                         its own limits (`Inference.sweep`)
over max_connections                          503 before anything is read
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from itertools import islice
from typing import Any

import structlog

from llm_router.config import Config
from llm_router.errors import (
    ClientError,
    ConfigError,
    OriginNotAllowed,
    RequestTimeout,
    RouterError,
    ShuttingDown,
    TooManyConnections,
)
from llm_router.gateway import files
from llm_router.gateway.browsers import Preflight, Refused, admit, is_preflight
from llm_router.gateway.exchange import NOT_YET, Exchange
from llm_router.gateway.farewell import Farewell
from llm_router.gateway.guard import EVERYBODY, Guard
from llm_router.gateway.inference import NOTHING, Inference
from llm_router.gateway.origins import Origins
from llm_router.gateway.plane import DataPlane
from llm_router.gateway.remembered import Remembered
from llm_router.gateway.uploads import Uploading
from llm_router.wire.dialects import OPERATIONS, dialect_of
from llm_router.wire.dialects.base import Dialect, Operation
from llm_router.wire.dialects.ollama import BLOBS, OLLAMA
from llm_router.wire.dialects.openai import OPENAI
from llm_router.wire.http1 import BODY, HEAD, IDLE, LENGTH, Request, RequestReader, response_head
from llm_router.wire.wishes import is_unload

SWEEP_EVERY = 1.0  # seconds: how exact the time-outs are
SLICE = 500  # connections looked after in one turn of the loop: under a millisecond, in which no token waits
LAST_WORDS = 1.0  # second for those who are cut at the end to be told
# Requests that may wait behind the one under way before the client is no longer read; of an upload, whose body nobody
# takes yet, there is none.
PIPELINED = 16
BACKLOG = 4096  # connections that wait to be accepted; the kernel's own limit (net.core.somaxconn) is 4096 on Linux
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = b"content-type: application/json; charset=utf-8\r\n"

log = structlog.get_logger()


class Client(asyncio.Protocol):
    """One client's connection: requests come in, one exchange at a time is under way."""

    __slots__ = (
        "_exchange",
        "_full",
        "_gateway",
        "_phase",
        "_plane",
        "_reader",
        "_refusal",
        "_since",
        "_stalled",
        "cors",
        "grant",
        "host",
        "known_as",
        "transport",
    )

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._plane = gateway.plane
        config = gateway.config
        self._reader = RequestReader(
            max_body=config.max_body, max_head=config.max_head, max_headers=config.max_headers, uploads=BLOBS
        )
        self._exchange: Exchange | None = None
        self._refusal: ClientError | None = None  # what to answer when all that came before it is answered
        self._full = False  # it reads slower than we write
        self._stalled = False  # not read from, because too much waits
        self._phase = IDLE  # of the reader, when bytes came last
        self._since = 0.0
        self.transport: asyncio.Transport
        self.host = self.known_as = ""
        self.grant = EVERYBODY
        self.cors = b""  # header lines for the answer to the request under way, where a web page sent it

    # -- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # asyncio's types know no better
        peer = transport.get_extra_info("peername")
        if not peer:  # it is gone again already
            self.transport.abort()
            return
        self.host = self.known_as = _host(peer)
        self._since = self._plane.now()
        if self._gateway.is_full():
            self._turn_away()
        else:
            self._gateway.clients.add(self)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            if reader.feed(data):
                self.write(CONTINUE)
        except ClientError as error:
            self._refusal = error
            self.transport.pause_reading()
        phase = reader.phase
        if phase is not IDLE and (phase is not self._phase or phase is BODY):
            self._since = self._plane.now()
            self._phase = phase
        if self._exchange is None:
            self._next()
        waiting = reader.ready
        if waiting and not self._stalled and (len(waiting) > PIPELINED or waiting[-1].upload is not None):
            self._stalled = True
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._gateway.lose(self)
        self._reader.ready.clear()
        if self._exchange is not None:
            self._exchange.cancel()

    def pause_writing(self) -> None:
        self._full = True
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self._full = False
        if self._exchange is not None:
            self._exchange.resume()
        else:
            self._next()

    # -- called by the exchange

    def write(self, data: bytes) -> None:
        """Write now, after what waits to be written."""
        if self._plane.outbox:
            self._plane.flush()
        self.transport.write(data)

    def send(self, data: bytes) -> None:
        """Have it written soon: see `DataPlane.send`."""
        self._plane.send(self.transport, data)

    def write_error(self, error: RouterError, dialect: Dialect, extra: bytes, *, head_only: bool = False) -> None:
        """An error of ours as a whole response, in the shape that the caller's API has for it."""
        body = dialect.error(error)
        head = response_head(error.status, JSON, LENGTH, len(body), extra)
        self.send(head if head_only else head + body)

    def exchange_over(self, *, keep: bool) -> None:
        """The answer is written. `keep`: the connection may carry another request."""
        self._exchange = None
        if self.transport.is_closing():
            return
        if not keep and self._reader.phase is BODY:  # of an upload, for which the answer did not wait
            self._part()
            return
        if not keep or self._plane.draining:
            self.close()
            return
        self._phase = self._reader.phase
        self._since = 0.0 if self._phase is IDLE else self._plane.now()
        if self._stalled and len(self._reader.ready) <= PIPELINED:
            self._stalled = False
            self.transport.resume_reading()
        if self._reader.ready or self._refusal is not None:
            self._plane.loop.call_soon(self._next)  # not from within: a long pipeline must not become a deep stack

    # -- called by the gateway

    def sweep(self, now: float) -> None:
        """Close, or refuse, what has taken too long."""
        if self._exchange is not None:
            self._exchange.sweep(now)
            return
        if self._refusal is not None:
            return
        config, waited = self._gateway.config, now - self._since
        phase = self._reader.phase
        if phase is IDLE:
            if not self._since:
                self._since = now  # a request does not ask the clock what only a sweep needs to know
            elif waited > config.idle_timeout:
                self.transport.close()
        elif phase is HEAD and waited > config.head_timeout:
            within = f"{config.head_timeout:g} s (head-timeout)"
            self._refuse(RequestTimeout(f"the request's head did not arrive within {within}"))
        elif phase is BODY and waited > config.body_timeout:
            within = f"{config.body_timeout:g} s (body-timeout)"
            self._refuse(RequestTimeout(f"no byte of the request's body came within {within}"))

    def close_if_idle(self) -> None:
        """Between two requests there is nothing to lose."""
        if self._exchange is None and self._reader.phase is IDLE and not self._reader.ready:
            self.transport.close()

    def close(self) -> None:
        """End it when all that was written to it is sent."""
        self._plane.flush()
        self.transport.close()

    def cut(self, error: RouterError) -> None:
        """There is no more time for what is under way: the client is told."""
        if self._exchange is not None:
            self._exchange.cut(error)

    def abort(self) -> None:
        """End it at once, whatever is under way."""
        self.transport.abort()

    # -- steps 1 and 2

    def _next(self) -> None:
        if self._exchange is not None or self._full or self.transport.is_closing():
            return
        if self._reader.ready:
            self._serve(self._reader.ready.popleft())
        elif self._refusal is not None:
            error, self._refusal = self._refusal, None
            self._refuse(error)

    def _serve(self, request: Request) -> None:
        plane, head = self._plane, request.head
        id_ = head.request_id or plane.new_id()
        operation = OPERATIONS.get(head.path) if head.method == b"POST" else None
        self.cors = b""
        ours = self._of_a_page(request, id_) if head.origin else None
        if ours is None and self._gateway.guard is not None:
            ours = self._refused(request, id_, inference=operation is not None)
        if ours is not None:
            self._exchange = exchange = ours
        elif request.upload is not None:
            self._exchange = exchange = Uploading(
                plane, self, request, id_, NOT_YET, _body=request.upload, _patience=self._gateway.config.body_timeout
            )
        elif operation is None or (operation.dialect is OLLAMA and self._is_controls(operation, request)):
            self._exchange = exchange = Exchange(plane, self, request, id_, NOT_YET)
        else:
            now = plane.now()
            self._exchange = exchange = self._gateway.inference(
                plane, self, request, id_, NOT_YET, _operation=operation, _ask=NOTHING, _at=now, _signed=now
            )
        exchange.begin()

    def _is_controls(self, operation: Operation, request: Request) -> bool:
        """Whether it is the control app's. Who may not ask for every model asks as for an answer, and hears so."""
        if operation.looks:
            return self._plane.shows
        return self._plane.unloads and not self.grant.models and is_unload(operation, request.body)

    def _refused(self, request: Request, id_: bytes, *, inference: bool) -> Exchange | None:
        """The answer to who may not ask this; None: it may."""
        guard = self._gateway.guard
        assert guard is not None  # noqa: S101 - see `_serve`
        try:
            grant = guard.admit(request.head, self.host, inference=inference)
        except RouterError as error:
            return Refused(self._plane, self, request, id_, NOT_YET, _error=error)
        if grant is not self.grant:
            self.grant = grant
            self.known_as = f"{grant.name}@{self.host}" if grant.name else self.host
        return None

    def _of_a_page(self, request: Request, id_: bytes) -> Exchange | None:
        """The answer to a web page's request, where it is ours to give."""
        plane, head = self._plane, request.head
        try:
            self.cors = admit(self._gateway.origins, head)
        except OriginNotAllowed as error:
            return Refused(plane, self, request, id_, NOT_YET, _error=error)
        return Preflight(plane, self, request, id_, NOT_YET) if is_preflight(head) else None

    def _refuse(self, error: ClientError) -> None:
        """What came is not a request that anybody could answer: the last word on this connection."""
        self._last_word(error, dialect_of(self._reader.path))

    def _turn_away(self) -> None:
        """There is no room. Nothing is read of what may have been asked: only its path could tell another shape."""
        limit = self._gateway.max_connections
        error = TooManyConnections(f"all {limit} connections are taken (max-connections)", retry_after=1)
        self._last_word(error, OPENAI)

    def _last_word(self, error: RouterError, dialect: Dialect) -> None:
        extra = b"x-request-id: %b\r\nconnection: close\r\n" % self._plane.new_id()
        if error.retry_after:
            extra += b"retry-after: %d\r\n" % error.retry_after
        self.write_error(error, dialect, extra)
        self._part()

    def _part(self) -> None:
        """Close when all that was written is sent, and what still comes has been taken off the wire."""
        self._plane.flush()
        self._gateway.lose(self)
        Farewell(self._gateway.leaving).take_over(self.transport)


class Gateway:
    """The listener of a router or a node, in front of its data plane."""

    def __init__(self, plane: DataPlane, config: Config, guard: Guard | None = None) -> None:
        """`start` makes it listen. `config`: where, and the limits; `guard`: who may do what, None: all.

        Raises:
            ConfigError: an origin is none, or certificate and key cannot be used.
        """
        self.plane = plane
        self.config = config
        self.guard = guard
        self.inference: type[Inference] = Inference if plane.bodies is None else Remembered
        self._tls = _tls(config)
        self.origins = _origins(config.origins)
        self.max_connections = config.max_connections or files.connections()
        self.clients: set[Client] = set()
        self.leaving: set[Farewell] = set()  # have had their last word, and are no clients any more
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()

    async def start(self, *, shared: bool = False) -> int:
        """Listen; the port it listens on. `shared`: with other processes, which all say so.

        Raises:
            OSError: the address is taken or not ours.
        """
        config = self.config
        self._server = await self.plane.loop.create_server(
            lambda: Client(self),
            config.host,
            config.port,
            ssl=self._tls,
            backlog=BACKLOG,
            reuse_address=True,
            reuse_port=shared or None,
        )
        self._sweep()
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Stop accepting; connections between two requests are closed."""
        self.plane.draining = True
        if self._server is not None:
            self._server.close()
        for client in list(self.clients):
            client.close_if_idle()

    async def drain(self, seconds: float) -> None:
        """Close, give inference under way `seconds` to finish, then cut what is left, and say so to its clients."""
        self.close()
        try:
            async with asyncio.timeout(seconds):
                await self.plane.empty()
                await self._flushed()
        except TimeoutError:
            log.warning("gateway.cut", requests=self.plane.under_way, after=seconds)
            await self._cut(f"shutting down, after {seconds:g} s for what was under way (drain-timeout): ask again")
        if self._sweeper is not None:
            self._sweeper.cancel()
        for client in list(self.clients):
            client.abort()
        for leaving in list(self.leaving):
            leaving.end()
        self.plane.pool.close()

    async def _cut(self, why: str) -> None:
        for client in list(self.clients):
            client.cut(ShuttingDown(why))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._flushed()

    async def _flushed(self) -> None:
        """Wait until slow clients have what was written to them."""
        for client in list(self.clients):
            client.close()
        while self.clients:
            self._gone.clear()
            await self._gone.wait()

    def is_full(self) -> bool:
        """Whether there is no room for another client."""
        return len(self.clients) >= self.max_connections

    def lose(self, client: Client) -> None:
        """A client's connection is gone, or of no use any more."""
        self.clients.discard(client)
        self._gone.set()

    def _sweep(self) -> None:
        self._sweeper = self.plane.loop.call_later(SWEEP_EVERY, self._sweep)  # first: whatever happens, there is a next
        now = self.plane.now()
        self.plane.loop.call_soon(self._look_after, iter(list(self.clients)), now)
        self.plane.pool.sweep(now)

    def _look_after(self, clients: Iterator[Client], now: float) -> None:
        """Some of them; the others when the loop has seen to what has come meanwhile."""
        some = list(islice(clients, SLICE))
        if not some:
            return
        self.plane.loop.call_soon(self._look_after, clients, now)
        for client in some:
            if client in self.clients:  # still
                client.sweep(now)


def _tls(config: Config) -> ssl.SSLContext | None:
    """What `tls_cert` and `tls_key` say; None: plain HTTP."""
    if not config.tls_cert:
        if config.tls_key:
            raise ConfigError("--tls-key is given without --tls-cert: both are needed for HTTPS")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--tls-cert {config.tls_cert}: {error}") from error
    return context


def _host(peer: tuple[Any, ...]) -> str:
    """The client's address; a link-local one with its zone, without which nobody can call back (RFC 4007, section 11).

    `peer` is (address, port), or of IPv6 (address, port, flow, zone).
    """
    return f"{peer[0]}%{peer[3]}" if len(peer) == 4 and peer[3] else str(peer[0])


def _origins(patterns: list[str]) -> Origins:
    try:
        return Origins(patterns)
    except ValueError as error:
        raise ConfigError(f"OLLAMA_ORIGINS or --origins: {error}") from error
