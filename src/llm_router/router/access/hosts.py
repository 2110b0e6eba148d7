"""The names by which the router may be called without a key.

A page of somebody else's whose name was made to lead here (DNS rebinding) is, for a browser, a page of ours: it may
call and read everything that needs no key. What gives it away is the Host that it calls: a name that is not ours. An
address leads nowhere else, so addresses are always good.
"""

import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache

# Values of Host that are remembered: more than one router has, in some 100 kB.
_REMEMBERED = 1024


class Hosts:
    """This router's names."""

    def __init__(self, further: Iterable[str] = (), machine: str = "") -> None:
        """`further`: names besides this machine's own, which is `machine` where given."""
        own = (machine or socket.gethostname()).lower().removesuffix(".")
        short = own.partition(".")[0]
        # A machine is called `box.local` where names are found by mDNS (RFC 6762, section 3).
        self._names = {"localhost", own, short, f"{short}.local", *(_plain(name) for name in further)} - {""}
        self.has = lru_cache(_REMEMBERED)(self._has)

    def _has(self, host: bytes) -> bool:
        """Whether a Host header names this router. Nothing at all is what programs of HTTP/1.0 say, and no browser."""
        name = _plain(host.decode("ascii", "replace"))
        return not name or name in self._names or name.endswith(".localhost") or _is_address(name)


def _plain(host: str) -> str:
    """A host without port, brackets, case and the root's dot."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name = host.partition(":")[0] if host.count(":") == 1 else host
    return name.removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
