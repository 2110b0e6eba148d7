"""The life of a request. The numbers are those of docs/design.md, "The life of a request".

1  head and body have arrived                 server.py
2  path -> dialect and operation              server.py; none: `exchange.py` takes it to the control app
3  who is asking                              (everyone on loopback; keys have their own issue)
4  peek: model, stream and messages                     (peek.py)
5  the model's name is resolved
6  the scheduler gives a lease, or says why not, or that the request waits; a stream that waits gets signs of life
7  an upstream connection: kept alive, or new. One that was kept and dies before the first byte is retried on a new one
   (exchange.py); a node that fails before the first byte sends us back to 6 without it
8  the answer's bytes pass (delivery.py); a slow client pauses the upstream, a client that goes away ends it
9  tally: first byte, last byte, tokens from the last record
10 the lease is given back and the request recorded: `_close`, which every exchange passes once, whatever happened
"""

from functools import lru_cache
from time import time

from llm_router.contract import Address
from llm_router.core.ask import Ask
from llm_router.core.catalog import resolve
from llm_router.core.health import State
from llm_router.core.node import Lease, Node
from llm_router.core.rates import Sample
from llm_router.core.scheduler import Queued
from llm_router.core.usage import Outcome, RequestRecord
from llm_router.errors import (
    BadRequest,
    ClientError,
    Forbidden,
    QueueFull,
    QueueTimeout,
    RouterError,
    Unavailable,
    UpstreamError,
    UpstreamFailed,
    UpstreamTimeout,
)
from llm_router.gateway import fetching, tally
from llm_router.gateway.delivery import DROP, Delivery, Reframed, Relay, Told, Whole
from llm_router.gateway.exchange import OURS, Exchange
from llm_router.gateway.origins import ASKED
from llm_router.gateway.peek import peek
from llm_router.gateway.tally import TAIL, TAIL_BYTES
from llm_router.wire.dialects import dialect_of
from llm_router.wire.dialects.base import Dialect, Operation, Usage
from llm_router.wire.heads import ResponseHead
from llm_router.wire.http1 import (
    CREDENTIALS,
    LENGTH,
    DecodedResponseReader,
    ResponseReader,
    request_head,
    response_head,
)
from llm_router.wire.translate import Translation, translate

# A whole answer up to this size (bytes) waits until it is complete, so that its node can still be replaced. Larger ones
# (embeddings of many texts) pass as they come.
HOLD = 256 * 1024
SHOWN = 500  # bytes of a node's error that a client is shown within a stream
OFFLINE_PATIENCE = 10.0  # seconds of silence from a node that is offline until its requests are taken elsewhere
# What a node answers when it is broken or busy, or has lost the model since it listed it: another one may do better.
BROKEN = frozenset({500, 502, 503, 504})
ANOTHER_MAY = BROKEN | {404, 429}
NOT_LET_IN = 401  # by a node: what it was shown is the router's, since a client's key does not travel on
_FAILED = frozenset({"failed", "broken"})  # outcomes

NOTHING = Ask("", 0.0)  # of a request that was refused before it was read
NO_USAGE = Usage()
NOBODY = Node("", "", "agent", None, dialects=frozenset())  # answered a request that was refused

# An answer is read on its way (counts, translation), and signs of life may stand before it: it is not to be compressed.
# A node has origins of its own, and it is not what the web page calls.
_NOT_PASSED_ON = OURS | CREDENTIALS | ASKED | {b"accept-encoding"}


class Inference(Exchange, kw_only=True):
    """A request for a model."""

    holds_head = True
    second_thoughts = ANOTHER_MAY | {NOT_LET_IN}

    _operation: Operation
    _at: float  # when it arrived
    _ask: Ask
    _signed: float = 0.0  # when the client saw the last sign of life
    _first: float = 0.0  # when the first byte of the present answer came
    _waited: float = 0.0
    _asked: str = ""
    _model: str = ""
    _lease: Lease | None = None
    _node: Node | None = None
    _begun: bool = False  # the client has the head of a stream, and signs of life in it
    _stalled: tuple[bytes, float] | None = None  # the last bytes of the present answer, and since when nothing follows
    _offline: float = 0.0  # since when its node is
    _attempts: int = 0
    _failure: UpstreamError | None = None
    _error: str = ""
    _translation: Translation | None = None
    _tail: list[bytes] = []  # its last pieces  # noqa: RUF012 - msgspec gives each its own

    def begin(self) -> None:
        """Steps 4 and 5, then 6."""
        plane, operation, body = self._plane, self._operation, self._request.body
        plane.under_way += 1
        try:
            peeked = peek(body, operation)
        except RouterError as error:
            self._refuse(error)
        else:
            self._asked, self._streams = peeked.model, peeked.streams
            self._model = model = resolve(peeked.model, plane.registry, tags=operation.dialect.tags)
            allowed = self._client.grant.models
            if allowed and model not in allowed:
                self._refuse(Forbidden(f"this key may not ask for model '{model}'"))
                return
            self._ask = Ask(model, self._at, len(body), peeked.conversation, self, operation.looks)
            self._place(self._at)

    def cancel(self) -> None:
        """The client went away: its connection upstream is closed, its place in the queue given up (requirement B6)."""
        if self._lease is None and not self._over:
            self._plane.scheduler.on_cancel(self._ask)
        super().cancel()

    def cut(self, error: RouterError) -> None:
        """As its parent; a request that waits leaves the queue."""
        self._error = error.message
        if self._lease is None:
            self._plane.scheduler.on_cancel(self._ask)
        super().cut(error)

    # -- 6: a place

    def _place(self, now: float) -> None:
        decision = self._plane.scheduler.on_request(self._ask, now)
        if type(decision) is Lease:  # nearly always, and at once
            self._lease = decision
            self._take(decision)
        elif isinstance(decision, Queued):
            self._plane.look_after_queue()
        else:
            self.placed(decision)

    def placed(self, decision: Lease | RouterError) -> None:
        """The scheduler has decided, at once or after a wait."""
        ask = self._ask
        if ask.queued:
            self._waited += self._plane.now() - ask.queued
            ask.queued = 0.0
        if isinstance(decision, Lease):
            self._lease = decision
            if self._over:  # the client went away in between
                self._give_back(self._plane.now(), failed=False)
            else:
                self._take(decision)
        elif not self._over:
            self._refuse(self._last_word(decision))

    def _take(self, lease: Lease) -> None:
        self._node = node = lease.node
        self._said = _node_line(node.name) + self._wait_line() if self._waited else _node_line(node.name)
        if self._attempts:  # what a node sent before it failed is none of this one's
            self._first, self._stalled, self._tail, self._translation = 0.0, None, [], None
        self._attempts += 1
        if self._operation.dialect.name not in node.dialects:
            self._translate(node)
        elif node.address is None:
            self._start(self._wake(node))
        else:
            self._open(node.address)

    def _translate(self, node: Node) -> None:
        try:
            translation = translate(self._operation, self._request.body, model=self._model, now=time())
        except BadRequest as error:
            self._refuse(error)
            return
        self._translation = translation
        self._plane.prepare(node.id, translation.wishes)
        if translation.answer is not None and not (translation.loads and node.address is None):
            self._answer(translation.answer, translation.content_type)
        elif node.address is None:
            self._start(self._wake(node))
        else:
            self._open(node.address)

    def _last_word(self, refusal: RouterError) -> RouterError:
        """Nobody is left. If somebody tried, their failure is what the caller should hear of."""
        if self._failure is None or isinstance(refusal, QueueFull | QueueTimeout):
            return refusal
        return self._failure

    def _answer(self, answer: bytes, content_type: str) -> None:
        """The translation knows the answer already: nothing has to be asked of the runtime."""
        delivery: Delivery
        if self._begun:
            delivery = self._stream()
            answer += self._operation.dialect.record_end
        else:
            delivery = Whole(self._client.write, 200, _content_type(content_type), self._extra())
        delivery.feed(answer)
        delivery.end()
        self._close("done", 200)

    async def _wake(self, node: Node) -> None:
        try:
            address = await self._plane.wake(node.id)
        except UpstreamError as error:
            self._failed(error)
        except Unavailable as error:  # it is well, but busy
            self._give_back(self._plane.now(), failed=False)
            self._refuse(error)
        else:
            self._woken(address)

    def _woken(self, address: Address) -> None:
        translation = self._translation
        if translation is not None and translation.answer is not None:  # it was to be loaded, and that is all
            self._answer(translation.answer, translation.content_type)
        else:
            self._open(address)

    # -- 7, 8

    def _new_reader(self) -> ResponseReader:
        if self._translation is not None or self._begun or self._request.head.http10:
            return DecodedResponseReader()
        return ResponseReader()

    def _prepare(self, address: Address) -> tuple[ResponseReader, bytes, bytes]:
        head, body, translation = self._request.head, self._request.body, self._translation
        target = head.target
        if translation is not None:
            target, body = translation.path, translation.body
        if address.prefix:
            target = address.prefix.encode() + target
        own = b"x-request-id: %b\r\n%b" % (self.id, (self._node or NOBODY).access)
        return self._new_reader(), request_head(head, target, _host(address), len(body), _NOT_PASSED_ON, own), body

    def _choose(self) -> Delivery | None:
        reader = self._reader
        if self._leaves():
            return None
        if self._begun and reader.status != 200:
            return self._reported()
        if self._translation is not None:
            return self._translated(self._translation)
        if self._begun:
            return self._reframed(200, b"")
        if reader.framing is LENGTH and reader.length <= HOLD:
            return Whole(self._client.write, reader.status, reader.head.lines(DROP), self._extra())
        return super()._choose()

    def _leaves(self) -> bool:
        """Whether the answer is another node's to give."""
        status = self._reader.status
        if status != NOT_LET_IN or not (self._node or NOBODY).access:
            return status in ANOTHER_MAY and self._move_on()
        self._drop()
        self._failed(UpstreamFailed(f"it does not let the router in (status {NOT_LET_IN})"))
        return True

    def _pass_whole(self, reader: ResponseReader, body: bytes) -> None:
        self._first = self._plane.now()
        self._tail = [body if reader.length <= TAIL_BYTES else body[-TAIL_BYTES:]]
        head = response_head(reader.status, reader.head.lines(DROP), reader.framing, reader.length, self._extra())
        self._client.send(head + body)

    def _translated(self, translation: Translation) -> Delivery:
        status, extra = self._reader.status, self._extra()
        if status != 200:
            lines = _content_type("application/json; charset=utf-8")
            retry = self._reader.head.header(b"retry-after")  # without it, busy would look like broken
            lines += b"retry-after: %b\r\n" % retry if retry else b""
            return Whole(self._client.write, status, lines, extra, lambda body: translation.error(status, body))
        lines = _content_type(translation.content_type)
        if self._streams:
            return self._reframed(status, lines, translation)
        return Whole(
            self._client.write,
            status,
            lines,
            extra,
            lambda body: translation.feed(body, time()) + translation.end(time()),
        )

    def _reported(self) -> Delivery:
        """The client has the head of a stream: an answer that is none becomes an error in it."""
        status = self._reader.status
        return Told(self._reframed(200, b""), lambda body: self._in_stream(_told_by_node(status, body)))

    def _in_stream(self, error: RouterError) -> bytes:
        return self._operation.dialect.broken(error, mid_record=False)

    def _move_on(self) -> bool:
        """The node is broken or busy: if another can answer, now or after a wait, it shall."""
        lease, ask = self._lease, self._ask
        if lease is None:
            return False
        status = self._reader.status
        failed = status in BROKEN and not _is_busy(self._reader.head)
        reason = f"answered with status {status}"
        if failed:
            self._blame(reason)
        ask.tried |= {lease.node.id}
        decision = self._plane.scheduler.on_request(ask, self._plane.now())
        if isinstance(decision, RouterError):
            return False
        self._failure = UpstreamFailed(f"node '{lease.node.name}' {reason}")
        self._error = self._failure.message
        self._give_back(self._plane.now(), failed=failed)
        self._drop()
        if isinstance(decision, Queued):
            self._plane.look_after_queue()
        else:
            self.placed(decision)
        return True

    # -- while it waits

    def sweep(self, now: float) -> None:
        """Once a second: is the node still at it, and does the client need a sign of life?"""
        lease, plane = self._lease, self._plane
        if lease is not None:
            self._watch(lease, now)
            error = self._overdue(lease, now)
            if error is not None:
                self._give_up(error)
        if self._first or self._over:
            return
        fetcher = plane.registry.fetcher(self._model)
        if self._streams:
            if plane.sign_every and now - self._signed >= plane.sign_every:
                self._sign(now, fetching.step(fetcher, self._model) if fetcher is not None else "")
        elif fetcher is not None and 0 < plane.fetch_timeout < now - self._at:
            self._stop_waiting(fetching.still(fetcher, self._model, plane.fetch_timeout))

    def _watch(self, lease: Lease, now: float) -> None:
        """Since when nothing came, and since when the node is offline. While a slow client has it paused, it waits."""
        last = self._tail[-1] if self._tail else b""
        upstream, stalled = self._upstream, self._stalled
        paused = upstream is not None and not upstream.transport.is_reading()
        if paused or stalled is None or stalled[0] is not last:
            self._stalled = (last, now)
        if lease.node.state is not State.OFFLINE:
            self._offline = 0.0
        elif not self._offline:
            self._offline = now

    def _overdue(self, lease: Lease, now: float) -> UpstreamError | None:
        """What the node is too late with. One that went offline may be about to end in order, unless it is silent."""
        plane = self._plane
        since = self._stalled[1] if self._stalled is not None else now
        if not self._first and 0 < plane.answer_timeout < now - lease.since:
            return UpstreamTimeout(f"no answer within {plane.answer_timeout:g} s (answer-timeout)")
        if self._first and 0 < plane.token_timeout < now - since:
            return UpstreamTimeout(f"nothing more of its answer for {plane.token_timeout:g} s (token-timeout)")
        if self._offline and now - max(since, self._offline) > OFFLINE_PATIENCE:
            return UpstreamFailed("went offline")
        return None

    def _give_up(self, error: UpstreamError) -> None:
        self._drop()
        if self._task is not None:
            self._task.cancel()
        self._failed(error)

    def _stop_waiting(self, refusal: Unavailable) -> None:
        """It has waited long enough; nobody is to blame."""
        self._drop()
        if self._task is not None:
            self._task.cancel()
        if self._lease is None:
            self._plane.scheduler.on_cancel(self._ask)
        self._give_back(self._plane.now(), failed=False)
        self._refuse(refusal)

    def _sign(self, now: float, step: str) -> None:
        """Something for the client to see. From here on it has a stream, and whatever follows comes in it."""
        record = self._operation.dialect.sign_of_life(self._operation, self._asked, time(), step)
        if self._delivery is not None:  # the node has sent a head, and nothing since
            if not (self._is_stream() and self._delivery.can_append()):
                return
            self._delivery.append(record)
        else:
            if self._upstream is not None and self._received:  # a part of a head: too late to have the body decoded
                return
            self._stream().append(record)
            self._begun = True
            if self._upstream is not None:
                self._reader = self._new_reader()
        self._signed = now

    def _is_stream(self) -> bool:
        """Whether the answer that has begun is what was asked for: not an error, nor one JSON text."""
        if self._begun or self._translation is not None:
            return True
        kind = self._operation.dialect.stream_type.encode()
        reader = self._reader
        return reader.status == 200 and reader.head.header(b"content-type").lower().startswith(kind)

    def _stream(self) -> Reframed:
        """The stream that was begun for the client, or is begun by this."""
        return self._reframed(200, _content_type(self._operation.dialect.stream_type))

    def _reframed(self, status: int, lines: bytes, translation: Translation | None = None) -> Reframed:
        reframed = super()._reframed(status, lines, translation)
        if self._begun:
            reframed.has_begun()
        return reframed

    # -- 9: tally

    def _deliver(self, delivery: Delivery, body: bytes) -> None:
        """From the first byte on, a stream that is only passed on takes a shorter way."""
        if not self._first:
            self._first = self._plane.now()
        delivery.feed(body)
        self._keep(body)
        if type(delivery) is Relay and self._upstream is not None:
            self._upstream.receive = self._relay

    def _relay(self, data: bytes) -> None:
        """Nearly all that a gateway does, token by token."""
        reader = self._reader
        try:
            reader.feed(data)
        except UpstreamError as error:
            self._drop()
            self._failed(error)
            return
        plane = self._plane
        if plane.outbox:
            plane.flush()
        self._client.transport.write(data)  # as Client.write does
        self._keep(data)
        if reader.complete:
            self._done()

    def _keep(self, data: bytes) -> None:
        tail = self._tail
        tail.append(data if len(data) <= TAIL_BYTES else data[-TAIL_BYTES:])
        if len(tail) > TAIL:
            del tail[0]

    # -- 10

    def _failed(self, error: RouterError) -> None:
        node = self._node
        if node is not None and isinstance(error, UpstreamError):
            self._blame(error.message, unreachable=True)
            self._failure = type(error)(f"node '{node.name}' failed: {error.message}")
            self._error = self._failure.message
        if self._delivery is not None and self._delivery.started:
            self._break(error)
            return
        self._give_back(self._plane.now(), failed=True)
        self._delivery = None
        if node is not None:
            self._ask.tried |= {node.id}
        self._place(self._plane.now())

    def _blame(self, reason: str, *, unreachable: bool = False) -> None:
        """Say that the node failed, for others to go elsewhere (requirement C6)."""
        if self._lease is not None:
            self._plane.failed(self._lease, reason, unreachable)

    def _break(self, error: RouterError) -> None:
        """The client has the beginning of an answer: it is told in its protocol (requirement B5).

        The message is left unfinished, so that nobody takes it for a complete one.
        """
        delivery = self._delivery
        dialect = self._operation.dialect
        told = bool(self._tail) and dialect.error_mark in self._tail[-1]  # by the node's own gateway
        if self._streams and not told and delivery is not None and delivery.can_append():
            delivery.append(dialect.broken(error, mid_record=self._is_mid_record()))
        super()._break(error)

    def _is_mid_record(self) -> bool:
        """Whether the last record that passed was cut in two; a translation passes whole ones only."""
        if self._translation is not None:
            return False
        end = self._operation.dialect.record_end
        return bool(self._tail) and not self._tail[-1].endswith((end, end + b"\r\n"))  # its own end, or its chunk's

    def _wait_line(self) -> bytes:
        return b"x-queue-wait-ms: %d\r\n" % round(self._waited * 1000) if self._waited else b""

    def _refuse(self, error: RouterError) -> None:
        self._error = error.message
        if self._lease is None:
            self._said = self._wait_line()
        if not self._begun:
            super()._refuse(error)
            return
        stream = self._stream()
        stream.append(self._in_stream(error))
        stream.end()
        self._close("refused" if isinstance(error, ClientError) else "failed", error.status)

    def _give_back(self, now: float, *, failed: bool, sample: Sample | None = None) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            decisions = self._plane.scheduler.on_done(lease, now, failed=failed, sample=sample)
            if decisions:
                self._plane.deliver(decisions)

    def _settle(self, outcome: Outcome, status: int) -> None:
        plane, lease = self._plane, self._lease
        now = plane.now()
        usage = NO_USAGE
        if lease is not None:
            sample = None
            if outcome == "done" and status == 200:
                if lease.fetches:
                    plane.registry.arrived(lease.node, lease.model)
                usage = tally.usage(self._spoken(), self._tail) or NO_USAGE
                # A whole answer without counts tells nothing, or was no inference (/api/show); one for which the node
                # fetched the model first tells how fast a network is.
                if self._first and not lease.fetches and (self._streams or usage is not NO_USAGE):
                    sample = tally.sample(usage, self._first - lease.since, now - lease.since, self._streams)
                if lease.trial:
                    plane.restored(lease)
            self._give_back(now, failed=outcome in _FAILED or status in BROKEN, sample=sample)
        self._ask.owner = None  # nobody calls us any more: without the circle we are freed at once
        plane.under_way -= 1
        if plane.draining:
            plane.one_less()
        plane.record(self._record(outcome, status, usage, now))

    def _record(self, outcome: Outcome, status: int, usage: Usage, now: float) -> RequestRecord:
        node, plane = self._node or NOBODY, self._plane
        return RequestRecord(
            self.id.decode("latin-1"),
            time(),
            self._client.known_as,
            self._operation.name,
            self._model or self._asked,
            node.id,
            node.name,
            status,
            outcome,
            self._streams,
            self._attempts,
            self._first - self._at if self._first else 0.0,
            now - self._at,
            usage.prompt_tokens,
            usage.completion_tokens,
            self._error if outcome != "done" else "",
            self._waited,
            self._request.head.header(b"traceparent").decode("latin-1") if plane.traced else "",
        )

    def _spoken(self) -> Dialect:
        """What the node answers in: another dialect than the client's where it is translated."""
        translation = self._translation
        return self._operation.dialect if translation is None else dialect_of(translation.path)


def _is_busy(head: ResponseHead) -> bool:
    """Whether a node says that it has too much to do: no failure of its (requirement C6).

    504 with Retry-After is what an agent answers whose own queue was too long.
    """
    return head.status == 429 or (head.status in {503, 504} and head.header(b"retry-after") != b"")


def _told_by_node(status: int, body: bytes) -> UpstreamFailed:
    text = body[:SHOWN].decode("utf-8", "replace")
    return UpstreamFailed(f"the node answered with status {status}: {text}")


@lru_cache(maxsize=4096)
def _host(address: Address) -> bytes:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}".encode("ascii" if host.isascii() else "idna")


@lru_cache(maxsize=4096)
def _node_line(name: str) -> bytes:
    """The header line that names a node; its name as people chose it, as far as a header can carry it."""
    return b"x-llm-router-node: %b\r\n" % "".join(c for c in name if c.isprintable()).encode("ascii", "replace")


@lru_cache(maxsize=16)
def _content_type(value: str) -> bytes:
    return b"content-type: %b\r\n" % value.encode()
