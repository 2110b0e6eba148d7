"""The end of a connection whose client may still be sending: the last word is said, and shall be heard.

A socket that is closed with bytes in it that nobody has read is reset, and a reset takes away what its client has not
read either: the answer that says what was wrong. So our side is ended first, and what comes is thrown away until the
client has ended its own (RFC 9112 §9.6).
"""

import asyncio
from typing import cast

from llm_router.config import MB
from llm_router.gateway.files import LINGERERS

# Seconds. Who reads while sending has seen the answer within a round trip; a local network carries 200 MB in this time.
LONGEST = 2.0
# Bytes: the most that a body has by default. Up to here, a client that sends everything before it reads hears of it.
MOST = 100 * MB


class Farewell(asyncio.Protocol):
    """Takes over a connection that has got its last answer. No more than `LINGERERS` at a time: others just end."""

    __slots__ = ("_among", "_left", "_timer", "_transport")

    def __init__(self, among: "set[Farewell]") -> None:
        """`among`: those of this gateway."""
        self._among = among
        self._left = MOST
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def take_over(self, transport: asyncio.Transport) -> None:
        """What was written is sent; nothing more will be."""
        if transport.is_closing():
            return
        if len(self._among) >= LINGERERS or not transport.can_write_eof():  # TLS has no way to end one side only
            transport.close()
            return
        self._transport = transport
        self._among.add(self)
        transport.set_protocol(self)
        try:
            transport.write_eof()
        except OSError:  # the client has reset it in this very moment
            transport.abort()
        transport.resume_reading()
        self._timer = asyncio.get_running_loop().call_later(LONGEST, self.end)

    def end(self) -> None:
        """It has had its time."""
        self._transport.abort()

    # -- called by asyncio

    def data_received(self, data: bytes) -> None:
        """Throw it away."""
        self._left -= len(data)
        if self._left < 0:
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The client has ended its side too, or had its time."""
        self._among.discard(self)
        cast("asyncio.TimerHandle", self._timer).cancel()
