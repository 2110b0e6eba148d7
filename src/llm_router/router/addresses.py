"""Where a node is: the address to use for it, and whether that is this machine."""

import ipaddress
import socket

from llm_router.contract import Address, Registration, parse_address


def node_address(message: Registration, seen: str) -> Address:
    """Where the router reaches a node: at the address it came from, or at the one it advertises (requirement A3).

    An advertised address is a host, to which the message's port and protocol belong, or a `host:port` or a URL.

    Raises:
        BadRequest: what is advertised is not an address.
    """
    host = message.address or str(_ip(seen) or seen)  # an IPv4 client of an IPv6 listener: its IPv4 address
    tls = message.protocol == "https"
    if _ip(host) is not None or not (":" in host or "/" in host):
        return Address(host, message.port, tls)
    return parse_address(host if "://" in host else f"{message.protocol}://{host}")


def is_here(host: str) -> bool:
    """Whether an address is this machine's own: a loopback address, or one that a socket can be bound to here."""
    if host == "localhost":
        return True
    ip = _ip(host)
    return ip is not None and (ip.is_loopback or _can_bind(ip))


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    return (ip.version == 6 and ip.ipv4_mapped) or ip


def _can_bind(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(ip), 0))
        except OSError:
            return False
    return True
