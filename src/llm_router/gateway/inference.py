"""The life of a request. The numbers are those of docs/design.md, "The life of a request".

1  head and body have arrived                 server.py
2  path -> dialect and operation              server.py; none: `exchange.py` takes it to the control app
3  who is asking                              (everyone on loopback; keys have their own issue)
4  peek: model and stream, nothing else of the body is read
5  the model's name is resolved
6  the scheduler gives a lease, or says why not
7  an upstream connection: kept alive, or new. One that was kept and dies before the first byte is retried on a new one
   (exchange.py); a node that fails before the first byte sends us back to 6 without it
8  the answer's bytes pass (delivery.py); a slow client pauses the upstream, a client that goes away ends it
9  tally: first byte, last byte, tokens from the last record
10 the lease is given back and the request recorded: `_close`, which every exchange passes once, whatever happened
"""

from collections import deque
from functools import lru_cache
from time import time

import msgspec

from llm_router.contract import UNREADABLE, Address
from llm_router.core.catalog import resolve
from llm_router.core.registry import Node
from llm_router.core.scheduler import Lease
from llm_router.core.usage import Outcome, RequestRecord
from llm_router.errors import BadRequest, RouterError, ShuttingDown, UpstreamError, UpstreamFailed
from llm_router.gateway.delivery import Delivery, Whole
from llm_router.gateway.exchange import OURS, Caller, Exchange
from llm_router.gateway.plane import DataPlane
from llm_router.wire.dialects import dialect_of
from llm_router.wire.dialects.base import Operation, Usage
from llm_router.wire.http1 import CREDENTIALS, DecodedResponseReader, Framing, Request, ResponseReader, request_head
from llm_router.wire.translate import Translation, translate

# A whole answer up to this size (bytes) waits until it is complete, so that its node can still be replaced. Larger ones
# (embeddings of many texts) pass as they come.
HOLD = 256 * 1024
# Pieces of a stream that are kept for its token counts: the record with them, [DONE] and the last chunk may come apart.
TAIL = 4
TAIL_BYTES = 8 * 1024  # of each such piece; a record with counts is below 2 kB
# What a node answers when it is broken or busy: another one may do better.
ANOTHER_MAY = frozenset({429, 500, 502, 503, 504})

_NOT_PASSED_ON = OURS | CREDENTIALS


class _Peek(msgspec.Struct, gc=False):
    model: str = ""
    name: str = ""  # what Ollama called it first; its own command still does (api/types.go, ShowRequest)
    stream: bool | None = None


_peek = msgspec.json.Decoder(_Peek).decode


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

    def __init__(self, plane: DataPlane, client: Caller, request: Request, operation: Operation) -> None:
        super().__init__(plane, client, request)
        self._operation = operation
        self._at = plane.now()
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
        plane, operation = self._plane, self._operation
        plane.inference_begun()
        try:
            if plane.draining:
                raise ShuttingDown("shutting down: ask again in a moment")
            self._asked, self._streams = _read(self._request.body, operation)
        except RouterError as error:
            self._refuse(error)
        else:
            self._model = resolve(self._asked, plane.registry, tags=operation.dialect.tags)
            self._place()

    # -- 6: a place

    def _place(self) -> None:
        decision = self._plane.scheduler.on_request(self._model, self._plane.now(), self._tried)
        if isinstance(decision, RouterError):
            self._refuse(self._last_word(decision))
        else:
            self._take(decision)

    def _take(self, lease: Lease) -> None:
        self._lease = lease
        self._node = node = lease.node
        self._attempts += 1
        try:
            self._translation = self._translation_for(node)
        except BadRequest as error:
            self._refuse(error)
            return
        if self._translation is not None and self._translation.answer is not None:
            self._deliver(self._translation.answer, self._translation.content_type)
        elif node.address is None:
            self._start(self._wake(node))
        else:
            self._open(node.address)

    def _translation_for(self, node: Node) -> Translation | None:
        if self._operation.dialect.name in node.dialects:
            return None
        return translate(self._operation, self._request.body, model=self._model, now=time())

    def _last_word(self, refusal: RouterError) -> RouterError:
        """Nobody is left. If somebody tried, their failure is what the caller should hear of."""
        return UpstreamFailed(self._error) if self._tried else refusal

    def _deliver(self, answer: bytes, content_type: str) -> None:
        """The translation knows the answer already: nothing has to be asked of the runtime."""
        self._first = self._plane.now()
        whole = Whole(self._client.write, 200, [(b"content-type", content_type.encode())], self._extra())
        whole.feed(answer)
        whole.end()
        self._close("done", 200)

    async def _wake(self, node: Node) -> None:
        try:
            address = await self._plane.wake(node.id)
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
        own = b"x-request-id: %b\r\n" % self.id
        return request_head(request, target, _host(address), len(body), _NOT_PASSED_ON, own) + body

    def _choose(self) -> Delivery | None:
        reader = self._reader
        if reader.status in ANOTHER_MAY and self._move_on():
            return None
        if not self._first:
            self._first = self._plane.now()
        if self._translation is not None:
            return self._translated(self._translation)
        if reader.framing is Framing.LENGTH and reader.length <= HOLD:
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
        decision = self._plane.scheduler.on_request(self._model, self._plane.now(), tried)
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
            self._plane.failed(node, error.message)
            self._error = f"node '{node.name}' failed: {error.message}"
        if self._delivery is not None and self._delivery.started:
            self._break(error)
            return
        self._give_back(failed=True)
        self._delivery = None
        if node is not None:
            self._tried = (*self._tried, node.id)
        self._place()

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
            self._plane.scheduler.on_done(self._lease, failed=failed)
            self._lease = None

    def _settle(self, outcome: Outcome, status: int) -> None:
        self._give_back(failed=outcome in {"failed", "broken"})
        self._plane.inference_over()
        self._plane.record(self._record(outcome, status))

    def _record(self, outcome: Outcome, status: int) -> RequestRecord:
        now = self._plane.now()
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
            first_byte=round(self._first - self._at, 6) if self._first else 0.0,
            seconds=round(now - self._at, 6),
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
    except UNREADABLE as error:
        where = f" (after byte {len(body)})" if "truncated" in str(error) else ""  # elsewhere msgspec says it itself
        raise BadRequest(f"the body is not valid JSON: {error}{where}") from None
    model = peeked.model or peeked.name
    if not model:
        raise BadRequest("'model' is missing: name the model that shall answer")
    streams = operation.streams is not None and (operation.streams if peeked.stream is None else peeked.stream)
    return model, streams


@lru_cache(maxsize=4096)
def _host(address: Address) -> bytes:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}".encode("ascii" if host.isascii() else "idna")


@lru_cache(maxsize=4096)
def _header_value(text: str) -> bytes:
    """A name that people chose, as a header value can carry it."""
    return "".join(c for c in text if c.isprintable()).encode("ascii", "replace")
