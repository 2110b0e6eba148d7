"""Tells the network where the router is, by multicast DNS (RFC 6762, RFC 6763), so that nodes find it (requirement A1).

Announced is `<host>._llm-router._tcp.local.` with the router's addresses, its port, and in its TXT record `version` and
`path`, what stands before every path of its API. Rule: trouble here is a line in the log; the router works without.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from llm_router import __version__
from llm_router.contract import SERVICE

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncZeroconf

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

NAME_LENGTH = 50  # bytes of a host's name; a label has at most 63 (RFC 1035, section 2.3.4), and "-2" may be added


async def addresses_of(host: str) -> list[str]:
    """The addresses at which other machines reach what listens on `host` here; none for a loopback address."""
    look_up = asyncio.get_running_loop().getaddrinfo
    try:
        found = await look_up(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:  # the gateway has listened on it all the same; the network hears nothing of it
        return []
    return reachable([str(place[0]) for *_, place in found], _own)


def reachable(bound: Iterable[str], own: Callable[[], Iterable[str]]) -> list[str]:
    """What others reach of the addresses that are listened on, where 0.0.0.0 and :: stand for all that are `own`.

    Not among them: loopback addresses, and those that mean nothing without a zone, which is another on each machine.
    """
    found: dict[str, None] = {}
    for ip in _ips(bound):
        ours = _ips(own()) if ip.is_unspecified else [ip]
        others = [o for o in ours if o.version == ip.version and not o.is_loopback]
        found |= {str(o): None for o in others if not (o.version == 6 and o.is_link_local)}
    return list(found)


def _own() -> Iterable[str]:
    import psutil  # noqa: PLC0415 - as zeroconf below: a router for this machine alone does without

    return [address.address for addresses in psutil.net_if_addrs().values() for address in addresses]


def _ips(texts: Iterable[str]) -> Iterator[IpAddress]:
    """Those that are IP addresses; a machine's interfaces have others, too."""
    for text in texts:
        with contextlib.suppress(ValueError):
            yield ipaddress.ip_address(text)


class Announcement:
    """One router's. `start` before it counts, `stop` to take it back."""

    def __init__(
        self, addresses: Sequence[str], port: int, log: FilteringBoundLogger, interfaces: Sequence[str] = ()
    ) -> None:
        """`interfaces`: addresses of those to speak on; all where not given."""
        self._addresses = addresses
        self._port = port
        self._log = log
        self._interfaces = interfaces
        self._zeroconf: AsyncZeroconf | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Announce it from now on; it takes a second to see that the name is free."""
        self._task = asyncio.create_task(self._announce())

    async def stop(self) -> None:
        """Say goodbye."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._zeroconf is not None:
            await self._zeroconf.async_close()

    async def _announce(self) -> None:
        from zeroconf import Error, InterfaceChoice  # noqa: PLC0415 - 4 MB that not every router needs
        from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf  # noqa: PLC0415 - as above

        name = _name()
        info = AsyncServiceInfo(
            SERVICE,
            f"{name}.{SERVICE}",
            port=self._port,
            parsed_addresses=list(self._addresses),
            properties={"version": __version__, "path": "/"},
            # A name of its own: the machine's is its own to announce, perhaps with other addresses.
            server=f"llm-router-{self._port}-{name}.local.",
        )
        try:
            self._zeroconf = AsyncZeroconf(interfaces=list(self._interfaces) or InterfaceChoice.All)
            said = await self._zeroconf.async_register_service(info, allow_name_change=True)
            self._log.info("router.announced", name=info.name, addresses=self._addresses, port=self._port)
            await said  # three times, a second in all (RFC 6762, section 8.3)
        except (OSError, RuntimeError, Error) as error:  # RuntimeError: no interface to speak on
            hint = "nodes need its address: llm-router node --router URL"
            self._log.warning("router.not_announced", reason=str(error) or type(error).__name__, hint=hint)


def _name() -> str:
    """This machine's name without its domain, as long as a label may be."""
    host = socket.gethostname().partition(".")[0].encode()[:NAME_LENGTH].decode(errors="ignore")
    return host or "router"
