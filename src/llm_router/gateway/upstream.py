"""Kept-alive connections to nodes, runtimes and the control app."""

import asyncio
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING, Protocol

from llm_router.contract import Address
from llm_router.errors import UpstreamFailed, UpstreamTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# An idle connection is given up before the other side does it (an agent's limit is 75 s): no request races its end.
IDLE_LIMIT = 55.0  # seconds


# A machine that is gone without a word (power, cable) is noticed by the kernel, also in the middle of an answer: after
# 15 seconds of silence it asks four times, every 5 seconds; 35 seconds are about what requirement E1 gives.
KEEP_ALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


class Receiver(Protocol):
    """Whoever waits for what an upstream sends."""

    def upstream_lost(self, error: Exception | None) -> None:
        """The connection is gone."""

    def upstream_full(self, *, full: bool) -> None:
        """It reads slower than it is written to, or has caught up."""


class Upstream(asyncio.Protocol):
    """One connection. It carries one request at a time, for `receiver`, whose `receive` is called with what comes."""

    __slots__ = ("_idle", "address", "idle_since", "receive", "receiver", "reused", "transport")

    def __init__(self, idle: "deque[Upstream]", address: Address) -> None:
        """`idle`: where it waits for its next request."""
        self._idle = idle
        self.address = address
        self.receiver: Receiver | None = None
        self.receive: Callable[[bytes], None] | None = None
        self.reused = False
        self.idle_since = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # asyncio's types know no better

    def data_received(self, data: bytes) -> None:
        receive = self.receive
        if receive is None:
            self.transport.abort()  # nobody asked: whatever this is, it is no answer
        else:
            receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        receiver, self.receiver, self.receive = self.receiver, None, None
        if receiver is not None:
            receiver.upstream_lost(exc)
        elif self in self._idle:
            self._idle.remove(self)

    def pause_writing(self) -> None:
        if self.receiver is not None:
            self.receiver.upstream_full(full=True)

    def resume_writing(self) -> None:
        if self.receiver is not None:
            self.receiver.upstream_full(full=False)

    def keep(self) -> None:
        """Its answer is complete, and it can carry another request if it has taken all of this one."""
        self.receiver = self.receive = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # it answered before it had read the request (RFC 9112 §9.5)
        else:
            self.idle_since = 0.0
            self._idle.append(self)

    def drop(self) -> None:
        """End it at once: the request is of no use any more, or the connection cannot be trusted."""
        self.receiver = self.receive = None
        self.transport.abort()


class Pool:
    """Idle connections by address, the most recently used first."""

    def __init__(self, *, connect_timeout: float) -> None:
        """`connect_timeout` in seconds."""
        self._connect_timeout = connect_timeout
        self._idle: dict[Address, deque[Upstream]] = {}  # an address stays: connections under way come back to it
        self._tls: ssl.SSLContext | None = None

    def take(self, address: Address) -> Upstream | None:
        """A kept-alive connection, if there is one."""
        idle = self._idle.get(address)
        while idle:
            upstream = idle.pop()
            if not upstream.transport.is_closing():
                upstream.reused = True
                return upstream
        return None

    async def connect(self, address: Address) -> Upstream:
        """A new connection.

        Raises:
            UpstreamFailed: refused, unreachable, or no TLS handshake.
            UpstreamTimeout: no answer in time.
        """
        loop = asyncio.get_running_loop()
        idle = self._idle.setdefault(address, deque())
        make = lambda: Upstream(idle, address)  # noqa: E731 - a factory, used once
        try:
            async with asyncio.timeout(self._connect_timeout):
                if address.port:
                    tls = self._tls_context() if address.tls else None
                    _, upstream = await loop.create_connection(make, address.host, address.port, ssl=tls)
                else:
                    _, upstream = await loop.create_unix_connection(make, address.host)
        except TimeoutError:
            within = f"{self._connect_timeout:g} s (connect-timeout)"
            raise UpstreamTimeout(f"no connection to {address.url} within {within}") from None
        except OSError as error:
            raise UpstreamFailed(f"no connection to {address.url}: {error.strerror or error}") from error
        keep_alive(upstream.transport.get_extra_info("socket"))
        return upstream

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long. To be called about once a second: it notes who has become idle."""
        for upstream in list(self._all()):
            if not upstream.idle_since:
                upstream.idle_since = now
            elif now - upstream.idle_since > IDLE_LIMIT:
                upstream.transport.close()

    def close(self) -> None:
        """Close every idle connection."""
        for upstream in list(self._all()):
            upstream.transport.close()

    def _all(self) -> "Iterator[Upstream]":
        for idle in self._idle.values():
            yield from idle

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


def keep_alive(connection: socket.socket) -> None:
    """Have the kernel look after a connection; where a platform has no such option, its default stands."""
    if connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
