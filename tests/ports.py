"""Ports of loopback for what a test starts later, or ends and starts again: none that others are given meanwhile.

Whoever asks the system for any port gets one of a range, in which a port that nobody listens on at the moment may be
somebody else's in the next. So these are of below that range, and each process of `pytest -n` has its own part of them.
"""

import os
import random
import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")  # Linux; others give those from 49152 on
FIRST, LAST = 20_000, 32_767  # below are services
PARTS = 16


def lasting_port() -> int:
    """A port that nobody else is given; 0, as who asks for any port says, where the system gives all of them."""
    if not _ours():
        return 0
    return next((port for port in islice(_PORTS, LAST - FIRST) if _is_free(port)), 0)


def free_port() -> int:
    """The same, and any that is free at the moment where there is none."""
    if port := lasting_port():
        return port
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _ours() -> bool:
    """Whether the system leaves them alone."""
    return not GIVEN.exists() or int(GIVEN.read_text().split()[0]) > LAST


def _drawn() -> Iterator[int]:
    """Those of this process, one after the other from anywhere: none comes again soon."""
    size = (LAST - FIRST + 1) // PARTS
    part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PARTS
    at = random.randrange(size)  # noqa: S311 - so that others, who test beside us, begin elsewhere
    while True:
        yield FIRST + part * size + at
        at = (at + 1) % size


_PORTS = _drawn()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
