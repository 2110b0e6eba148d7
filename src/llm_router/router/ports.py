"""The address that several workers share: is it free, and which port is it.

Processes of one user that all ask for SO_REUSEPORT listen on one address, and the kernel chooses who gets a connection
(Linux; socket(7), "SO_REUSEPORT"). macOS and the BSDs let them listen, and may give most connections to one of them.
It would share with another router of ours, too, without a word: so the address is tried first as one that is not
shared.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, TypeAlias

from llm_router.config import RouterConfig
from llm_router.errors import ConfigError

Place: TypeAlias = tuple[int, tuple[Any, ...]]  # address family, and (address, port) or more of IPv6


def can_share() -> bool:
    """Whether processes can listen on one port here; Windows' SO_REUSEADDR lets others steal it instead."""
    return hasattr(socket, "SO_REUSEPORT")


@asynccontextmanager
async def reserved(config: RouterConfig) -> AsyncIterator[int]:
    """Keep the address for whoever shares it; the port, chosen here if it is 0.

    What keeps it is bound and does not listen: it gets no connections.

    Raises:
        ConfigError: somebody listens there, or the address is none of ours.
    """
    with ExitStack() as stack:
        port = config.port
        try:
            for family, (host, _, *rest) in await _places(config.host):
                with _bound((family, (host, port, *rest)), shared=False) as found:
                    port = found.getsockname()[1]
                stack.enter_context(_bound((family, (host, port, *rest)), shared=True))
        except OSError as error:
            raise ConfigError(why_not(error, config)) from error
        yield port


def why_not(error: OSError, config: RouterConfig) -> str:
    """Why nobody can listen there, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return f"port {config.port} of {config.host} is taken: stop what uses it, or choose another with --port"
    return f"cannot listen on port {config.port} of {config.host}: {error}; choose another with --port or --host"


async def _places(host: str) -> list[Place]:
    """Where `host` is, as asyncio's servers see it: each address once."""
    look_up = asyncio.get_running_loop().getaddrinfo
    found = await look_up(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, place) for family, *_, place in found if _exists(family)))


def _exists(family: int) -> bool:
    """Whether this machine has the protocol: names have IPv6 addresses where there is no IPv6, too."""
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def _bound(place: Place, *, shared: bool) -> socket.socket:
    """A socket with this address; the options are those that asyncio's servers set."""
    family, address = place
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are over do not count
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
