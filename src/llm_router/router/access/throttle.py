"""How many wrong keys one address may show. Pure: `now` in seconds.

A key has 256 bits and cannot be guessed; this keeps guesses from filling the log, and a person's mistakes from being
punished. Who shows a right key is never throttled, so one wrong client does not lock out the others behind its address.
"""

import ipaddress
import math
from collections import OrderedDict

BURST = 10.0  # wrong keys at once: a person's typing errors, or a client that tries all its connections
PER_SECOND = 0.2  # after that: one per 5 s
ADDRESSES = 4096  # remembered, the last ones, in half a MB; who has that many addresses need not wait in any case


class Throttle:
    """A bucket of attempts per address (token bucket)."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # attempts, and when there were so many

    def wait(self, client: str, now: float) -> int:
        """Whole seconds until another attempt is heard; 0: it is heard now."""
        left = self._refilled(_subscriber(client), now)
        return 0 if left >= 1 else math.ceil((1 - left) / PER_SECOND)

    def failed(self, client: str, now: float) -> None:
        """An attempt was wrong."""
        subscriber = _subscriber(client)
        self._left[subscriber] = (max(self._refilled(subscriber, now) - 1, 0.0), now)
        self._left.move_to_end(subscriber)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)

    def _refilled(self, subscriber: str, now: float) -> float:
        left, at = self._left.get(subscriber, (BURST, now))
        return min(left + max(now - at, 0.0) * PER_SECOND, BURST)


def _subscriber(client: str) -> str:
    """What one person has: an IPv4 address, or 64 bits of an IPv6 one (RFC 6177, section 2)."""
    host = client.partition("%")[0]
    if ":" not in host:
        return host
    return str(ipaddress.ip_network(f"{host}/64", strict=False).network_address)
