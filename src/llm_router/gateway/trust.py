"""Which clients count as this machine's (the setting `trust`)."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from llm_router.errors import ConfigError

REMEMBERED = 4096  # addresses that were looked at; a look takes 3 µs, and who calls once calls again


class Trust:
    """The networks of a setting."""

    def __init__(self, networks: Iterable[str]) -> None:
        """`networks`: addresses, or as 10.0.0.0/8.

        Raises:
            ConfigError: one of them is none.
        """
        try:
            self._networks = tuple(ipaddress.ip_network(network.strip()) for network in networks)
        except ValueError as error:
            raise ConfigError(f"--trust: {error}") from error
        self.covers = lru_cache(REMEMBERED)(self._covers)

    def _covers(self, host: str) -> bool:
        """Whether the client at this address is one; of an IPv4 client of an IPv6 listener, its IPv4 address counts."""
        try:
            ip = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        ip = (ip.version == 6 and ip.ipv4_mapped) or ip
        return any(ip in network for network in self._networks)
