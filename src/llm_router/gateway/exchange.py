"""The life of a request. The numbers are those of docs/design.md, "The life of a request".

1  head and body have arrived                 server.py
2  path -> dialect and operation              server.py; none: `Exchange` proxies it to the control app
3  who is asking                              (everyone on loopback; keys have their own issue)
4  peek: model and stream, nothing else of the body is read
5  the model's name is resolved
6  the scheduler gives a lease, or says why not
7  an upstream connection: kept alive, or new. One that was kept and dies before the first byte is retried on a new one;
   a node that fails before the first byte sends us back to 6 without it
8  the answer's bytes are relayed; a slow client pauses the upstream, a client that goes away ends it
9  tally: first byte, last byte, tokens from the last record
10 the lease is given back and the request recorded: in `_close`, which every exchange passes, whatever happened
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING

import msgspec
import structlog

from llm_router.contract import Address
from llm_router.core.catalog import resolve
from llm_router.core.registry import Node
from llm_router.core.scheduler import Lease
from llm_router.core.usage import Outcome, RequestRecord
from llm_router.errors import (
    BadRequest,
    ClientError,
    RouterError,
    ShuttingDown,
    UpstreamError,
    UpstreamFailed,
)
from llm_router.gateway.control import CLIENT, SECRET
from llm_router.gateway.delivery import Delivery, Reframed, Relay, Whole
from llm_router.gateway.upstream import Upstream
from llm_router.wire.dialects import dialect_of
from llm_router.wire.dialects.base import Operation, Usage
from llm_router.wire.http1 import (
    CREDENTIALS,
    REWRITTEN,
    DecodedResponseReader,
    Framing,
    Header,
    Request,
    ResponseReader,
    request_head,
)
from llm_router.wire.translate import Translation, translate

if TYPE_CHECKING:
    from llm_router.gateway.server import Client, Gateway

# A whole answer up to this size (bytes) waits until it is complete, so that its node can still be replaced. Larger ones
# (embeddings of many texts) pass as they come.
HOLD = 256 * 1024
TAIL = (
    4  # pieces of a stream that are kept for its token counts: usage record, [DONE] and the last chunk may come apart
)
TAIL_BYTES = 8 * 1024  # of each such piece; a record with counts is below 2 kB
# What a node answers when it is broken or busy: another one may do better.
ANOTHER_MAY = frozenset({429, 500, 502, 503, 504})

log = structlog.get_logger()

_TO_CONTROL = REWRITTEN | {CLIENT, SECRET}
_TO_NODE = REWRITTEN | CREDENTIALS | {CLIENT, SECRET}


class _Peek(msgspec.Struct, gc=False):
    model: str = ""
    stream: bool | None = None


_peek = msgspec.json.Decoder(_Peek).decode


class Exchange:
    """A request on its way to the control app and back; `Inference` adds what routing needs."""

    __slots__ = (
        "_client",
        "_delivery",
        "_gateway",
        "_over",
        "_reader",
        "_received",
        "_request",
        "_task",
        "_upstream",
        "id",
    )

    def __init__(self, gateway: "Gateway", client: "Client", request: Request) -> None:
        self._gateway = gateway
        self._client = client
        self._request = request
        self._upstream: Upstream | None = None
        self._reader: ResponseReader
        self._delivery: Delivery | None = None
        self._received = False  # anything at all on the present connection
        self._task: asyncio.Task[None] | None = None
        self._over = False
        self.id = gateway.request_id(request)

    def begin(self) -> None:
        """Send it on its way."""
        self._open(self._gateway.control)

    def cancel(self) -> None:
        """The client went away (requirement B6)."""
        self._close("cancelled", 499)  # nginx' word for it

    def pause(self) -> None:
        """The client reads slower than the upstream writes."""
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume(self) -> None:
        """The client has caught up."""
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    # -- 7: a connection

    def _open(self, address: Address) -> None:
        upstream = self._gateway.pool.take(address)
        if upstream is not None:
            self._send(upstream)
        else:
            self._start(self._connect(address))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._task = self._gateway.loop.create_task(work)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task of ours that fails in a way nobody foresaw must not leave its client waiting for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("exchange.task_failed", exc_info=error)
            self._failed(UpstreamFailed(f"an error inside the router: {error!r}"))

    async def _connect(self, address: Address) -> None:
        try:
            upstream = await self._gateway.pool.connect(address)
        except UpstreamError as error:
            self._failed(error)
        else:
            self._send(upstream)

    def _send(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = False
        self._reader = self._new_reader()
        upstream.receiver = self
        upstream.transport.write(self._payload(upstream.address))

    def _new_reader(self) -> ResponseReader:
        kind = DecodedResponseReader if self._request.http10 else ResponseReader
        return kind(head_only=self._request.method == b"HEAD")

    def _payload(self, address: Address) -> bytes:  # noqa: ARG002 - an override needs it
        request, gateway = self._request, self._gateway
        extra = b"x-request-id: %b\r\n%b: %b\r\n%b" % (self.id, CLIENT, self._client.host, gateway.control_headers)
        host = request.header(b"host") or b"localhost"
        return request_head(request, request.target, host, len(request.body), _TO_CONTROL, extra) + request.body

    # -- 8: the answer

    def upstream_data(self, data: bytes) -> None:
        """Bytes of the answer came."""
        self._received = True
        reader = self._reader
        try:
            body = reader.feed(data)
            if self._delivery is None:
                if not reader.status:
                    return
                self._delivery = self._choose()
                if self._delivery is None:
                    return
            self._delivery.feed(body)
            self._note(body)
            if reader.complete:
                self._delivery.end()
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
            self._reader.eof()
            if self._delivery is not None:
                self._delivery.end()
        except UpstreamError as failure:
            self._failed(UpstreamFailed(f"{failure.message} ({error})") if error else failure)
        else:
            self._done()

    def _choose(self) -> Delivery | None:
        """The head is there: how its body shall pass. None: it shall not, and that has been seen to."""
        reader = self._reader
        if reader.framing is Framing.CLOSE or self._request.http10:
            return self._reframed(reader.status, reader.headers)
        return Relay(self._client.write, reader, self._extra())

    def _reframed(self, status: int, headers: list[Header], translation: Translation | None = None) -> Reframed:
        chunked = not self._request.http10
        if not chunked:
            self._request.keep_alive = False
        return Reframed(
            self._client.write,
            status,
            headers,
            self._extra(),
            chunked=chunked,
            convert=(lambda body: translation.feed(body, time())) if translation else None,
            finish=(lambda: translation.end(time())) if translation else None,
        )

    def _extra(self) -> bytes:
        """Header lines of ours in every response."""
        keep = self._request.keep_alive and not self._gateway.draining
        line = b"x-request-id: %b\r\n" % self.id
        if not keep:
            self._request.keep_alive = False
            return line + b"connection: close\r\n"
        return line + b"connection: keep-alive\r\n" if self._request.http10 else line

    def _note(self, body: bytes) -> None:
        """Bytes passed; an override keeps the last of them."""

    # -- 10: the end

    def _done(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            if self._reader.keep_alive:
                upstream.keep()
            else:
                upstream.drop()
        self._close("done", self._reader.status)

    def _failed(self, error: RouterError) -> None:
        if self._delivery is not None and self._delivery.started:
            self._request.keep_alive = False
            self._close("broken", self._reader.status)
        else:
            self._refuse(error)

    def _refuse(self, error: RouterError) -> None:
        """Delivery with an error of ours, in the caller's dialect."""
        if isinstance(error, ShuttingDown):
            self._request.keep_alive = False
        self._client.write_error(error, dialect_of(self._request.path), self._extra())
        self._close("refused" if isinstance(error, ClientError) else "failed", error.status)

    def _drop(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.drop()

    def _close(self, outcome: Outcome, status: int) -> None:  # noqa: ARG002 - an override records them
        """The one place that every exchange passes."""
        self._over = True
        self._drop()
        if self._task is not None and outcome == "cancelled":
            self._task.cancel()
        self._client.exchange_over(keep=self._request.keep_alive)


class Inference(Exchange):
    """A request for a model."""

    __slots__ = (
        "_asked",
        "_at",
        "_attempts",
        "_error",
        "_first",
        "_lease",
        "_model",
        "_node",
        "_operation",
        "_streams",
        "_tail",
        "_translation",
        "_tried",
    )

    def __init__(self, gateway: "Gateway", client: "Client", request: Request, operation: Operation) -> None:
        super().__init__(gateway, client, request)
        self._operation = operation
        self._at = gateway.now()
        self._first = 0.0
        self._asked = self._model = ""
        self._streams = False
        self._lease: Lease | None = None
        self._node: Node | None = None
        self._tried: tuple[str, ...] = ()
        self._attempts = 0
        self._error = ""
        self._translation: Translation | None = None
        self._tail: deque[bytes] = deque(maxlen=TAIL)

    def begin(self) -> None:
        """Steps 4 and 5, then 6."""
        gateway, operation = self._gateway, self._operation
        gateway.inference_begun()
        try:
            if gateway.draining:
                raise ShuttingDown("shutting down: ask again in a moment")
            self._asked, self._streams = _read(self._request.body, operation)
            self._model = resolve(self._asked, gateway.registry, tags=operation.dialect.tags)
            self._place()
        except RouterError as error:
            self._refuse(error)

    # -- 6: a place

    def _place(self) -> None:
        decision = self._gateway.scheduler.on_request(self._model, self._gateway.now(), self._tried)
        if isinstance(decision, RouterError):
            raise self._last_word(decision)
        self._take(decision)

    def _take(self, lease: Lease) -> None:
        self._lease = lease
        self._node = node = lease.node
        self._attempts += 1
        self._translation = None
        if self._operation.dialect.name not in node.dialects:
            self._translation = translate(self._operation, self._request.body, model=self._model, now=time())
            if self._translation.answer is not None:
                self._deliver_ready(self._translation)
                return
        if node.address is None:
            self._start(self._wake(node))
        else:
            self._open(node.address)

    def _last_word(self, refusal: RouterError) -> RouterError:
        """Nobody is left. If somebody tried, their failure is what the caller should hear of."""
        return UpstreamFailed(self._error) if self._tried else refusal

    def _deliver_ready(self, translation: Translation) -> None:
        """The translation knows the answer: nothing has to be asked of the runtime."""
        self._first = self._gateway.now()
        content_type = [(b"content-type", translation.content_type.encode())]
        whole = Whole(self._client.write, 200, content_type, self._extra())
        whole.feed(translation.answer or b"")
        whole.end()
        self._close("done", 200)

    async def _wake(self, node: Node) -> None:
        try:
            address = await self._gateway.wake(node.id)
        except UpstreamError as error:
            self._failed(error)
        else:
            self._open(address)

    # -- 7, 8

    def _new_reader(self) -> ResponseReader:
        return DecodedResponseReader() if self._translation is not None or self._request.http10 else ResponseReader()

    def _payload(self, address: Address) -> bytes:
        request = self._request
        target, body = request.target, request.body
        if self._translation is not None:
            target, body = self._translation.path, self._translation.body
        if address.prefix:
            target = address.prefix.encode() + target
        return (
            request_head(request, target, _host(address), len(body), _TO_NODE, b"x-request-id: %b\r\n" % self.id) + body
        )

    def _choose(self) -> Delivery | None:
        reader = self._reader
        if reader.status in ANOTHER_MAY and self._move_on():
            return None
        if not self._first:
            self._first = self._gateway.now()
        if self._translation is not None:
            return self._translated(self._translation)
        if reader.framing is Framing.LENGTH and reader.length <= HOLD and not self._request.http10:
            return Whole(self._client.write, reader.status, reader.headers, self._extra())
        return super()._choose()

    def _translated(self, translation: Translation) -> Delivery:
        status, extra = self._reader.status, self._extra()
        if status != 200:
            json = [(b"content-type", b"application/json; charset=utf-8")]
            return Whole(self._client.write, status, json, extra, lambda body: translation.error(status, body))
        headers = [(b"content-type", translation.content_type.encode())]
        if self._streams:
            return self._reframed(status, headers, translation)
        return Whole(
            self._client.write,
            status,
            headers,
            extra,
            lambda body: translation.feed(body, time()) + translation.end(time()),
        )

    def _move_on(self) -> bool:
        """The node is broken or busy: if another can answer, it shall."""
        if self._node is None:
            return False
        tried = (*self._tried, self._node.id)
        decision = self._gateway.scheduler.on_request(self._model, self._gateway.now(), tried)
        if isinstance(decision, RouterError):
            return False
        self._give_back(failed=self._reader.status != 429)
        self._error = f"node '{self._node.name}' answered {self._reader.status}"
        self._tried = tried
        self._drop()
        self._take(decision)
        return True

    def _extra(self) -> bytes:
        line = super()._extra()
        return line + b"x-llm-router-node: %b\r\n" % _header_value(self._node.name) if self._node is not None else line

    # -- 9: tally

    def _note(self, body: bytes) -> None:
        if body:
            self._tail.append(body if len(body) <= TAIL_BYTES else body[-TAIL_BYTES:])

    # -- 10

    def _failed(self, error: RouterError) -> None:
        node = self._node
        if node is not None and isinstance(error, UpstreamError):
            self._gateway.failed(node, error.message)
            self._error = f"node '{node.name}' failed: {error.message}"
        if self._delivery is not None and self._delivery.started:
            self._break(error)
            return
        self._give_back(failed=True)
        self._delivery = None
        if node is not None:
            self._tried = (*self._tried, node.id)
        try:
            self._place()
        except RouterError as refusal:
            self._refuse(refusal)

    def _break(self, error: RouterError) -> None:
        """The client has the beginning of an answer: it is told in its protocol (requirement B5).

        The message is left unfinished, so that nobody takes it for a complete one.
        """
        delivery = self._delivery
        dialect = self._operation.dialect
        told = bool(self._tail) and dialect.error_mark in self._tail[-1]  # by the node's own gateway
        if self._streams and not told and delivery is not None and delivery.can_append():
            delivery.append(dialect.broken(error, mid_record=self._is_mid_record()))
        self._request.keep_alive = False
        self._close("broken", self._reader.status)

    def _is_mid_record(self) -> bool:
        """Whether the last record that passed was cut in two; a translation passes whole ones only."""
        if self._translation is not None:
            return False
        end = self._operation.dialect.record_end
        return bool(self._tail) and not self._tail[-1].endswith((end, end + b"\r\n"))  # its own end, or its chunk's

    def _refuse(self, error: RouterError) -> None:
        self._error = error.message
        super()._refuse(error)

    def _give_back(self, *, failed: bool) -> None:
        if self._lease is not None:
            self._gateway.scheduler.on_done(self._lease, failed=failed)
            self._lease = None

    def _close(self, outcome: Outcome, status: int) -> None:
        if self._over:
            return
        self._give_back(failed=outcome in {"failed", "broken"})
        self._gateway.inference_over()
        self._gateway.record(self._record(outcome, status))
        super()._close(outcome, status)

    def _record(self, outcome: Outcome, status: int) -> RequestRecord:
        now = self._gateway.now()
        usage = self._usage() if outcome == "done" else None
        node = self._node
        return RequestRecord(
            id=self.id.decode("latin-1"),
            at=time(),
            client=self._client.host.decode("latin-1"),
            operation=self._operation.name,
            model=self._model or self._asked,
            node_id=node.id if node is not None else "",
            node=node.name if node is not None else "",
            status=status,
            outcome=outcome,
            streamed=self._streams,
            attempts=self._attempts,
            first_byte=self._first - self._at if self._first else 0.0,
            seconds=now - self._at,
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
            error=self._error if outcome != "done" else "",
        )

    def _usage(self) -> Usage | None:
        """From the bytes as the upstream sent them, so in its dialect where they are translated."""
        translation = self._translation
        dialect = dialect_of(translation.path) if translation is not None else self._operation.dialect
        return dialect.usage(b"".join(self._tail)) if self._tail else None


def _read(body: bytes, operation: Operation) -> tuple[str, bool]:
    """Step 4: model and stream. Raises BadRequest, which says where the body goes wrong."""
    try:
        peeked = _peek(body)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"the body is not valid JSON: {error}" + (f" (after byte {len(body)})" if "truncated" in str(error) else "")
        ) from None
    if not peeked.model:
        raise BadRequest("'model' is missing: name the model that shall answer")
    streams = operation.streams is not None and (operation.streams if peeked.stream is None else peeked.stream)
    return peeked.model, streams


@lru_cache(maxsize=4096)
def _host(address: Address) -> bytes:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}".encode("ascii" if host.isascii() else "idna")


@lru_cache(maxsize=4096)
def _header_value(text: str) -> bytes:
    """A name that people chose, as a header value can carry it."""
    return "".join(c for c in text if c.isprintable()).encode("ascii", "replace")
