"""A request whose body passes to the control app while it comes: a model's file may be larger than memory.

At most one write's worth waits at either side: the client is not read while the app is behind, and the app is not
written to before it is connected to. The connection ends with the answer, which may come before the body has.
"""

from llm_router.contract import Address
from llm_router.core.usage import Outcome
from llm_router.errors import RequestTimeout
from llm_router.gateway.exchange import OURS, Exchange
from llm_router.gateway.upstream import Upstream
from llm_router.wire.http1 import LAST_CHUNK, ResponseReader, Upload, chunked_request_head, request_head
from llm_router.wire.stream import chunk


class Uploading(Exchange, kw_only=True):
    """One upload."""

    _body: Upload
    _patience: float  # seconds that the body may stand still
    _moved: float = 0.0  # when bytes came last

    def begin(self) -> None:
        """Connect first: until then the client is not read from."""
        self._moved = self._plane.now()
        self._client.transport.pause_reading()
        self._open(self._plane.control)

    def sweep(self, now: float) -> None:
        """The client has to go on, while it is read from."""
        waits = not self._body.complete and self._client.transport.is_reading()
        if not waits:
            self._moved = now
        elif now - self._moved > self._patience:
            self.cut(RequestTimeout(f"no byte of the request's body came within {self._patience:g} s (body-timeout)"))

    def upstream_full(self, *, full: bool) -> None:
        """The app's pace is the client's."""
        transport = self._client.transport
        if full:
            transport.pause_reading()
        elif not transport.is_closing():
            transport.resume_reading()

    def _open(self, address: Address) -> None:
        self._start(self._connect(address))  # never a kept one: what was sent cannot be sent again

    def _send(self, upstream: Upstream) -> None:
        super()._send(upstream)
        self._plane.flush()  # the head comes first
        self._body.came = self._pass_on
        self._client.transport.resume_reading()
        self._pass_on()

    def _prepare(self, address: Address) -> tuple[ResponseReader, bytes, bytes]:  # noqa: ARG002 - the parent's
        head, length = self._request.head, self._body.length
        extra, host = self._known() + self._plane.control_headers, head.host or b"localhost"
        if length is None:
            return ResponseReader(), chunked_request_head(head, host, OURS, extra), b""
        return ResponseReader(), request_head(head, head.target, host, length, OURS, extra), b""

    def _pass_on(self) -> None:
        """What has come."""
        upstream, body = self._upstream, self._body
        if upstream is None:  # it has been answered; what still comes is nobody's business
            body.take()
            return
        self._moved = self._plane.now()
        data = body.take()
        if body.length is None:
            data = (chunk(data) if data else b"") + (LAST_CHUNK if body.complete else b"")
        if data:
            upstream.transport.write(data)

    def _settle(self, outcome: Outcome, status: int) -> None:  # noqa: ARG002 - the parent's
        self._body.came = None
        self._body.take()
