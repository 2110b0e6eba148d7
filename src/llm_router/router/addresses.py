"""Where a node is: the address to use for it, and whether that is this machine."""

import ipaddress
import socket

from llm_router.contract import Address, Registration, parse_address
from llm_router.errors import BadRequest


def node_address(message: Registration, seen: str) -> Address:
    """Where the router reaches a node: at the address it came from, or at the one it advertises (requirement A3).

    An advertised address is a host, to which the message's port and protocol belong, or a `host:port` or a URL. A
    link-local address that was seen has its zone, `fe80::1%2`: without it nobody finds back (RFC 4007, section 11).

    Raises:
        BadRequest: what is advertised is not an address, or not one of any machine.
    """
    host = _unbracketed(message.address) or str(_ip(seen) or seen)  # an IPv4 client of an IPv6 listener: as IPv4
    tls = message.protocol == "https"
    ip = _ip(host)
    if ip is not None and ip.is_unspecified:
        raise BadRequest(f"{host} stands for every address of a machine: advertise the one that the router can reach")
    if ip is not None or not (":" in host or "/" in host):
        return Address(host, message.port, tls)
    return parse_address(host if "://" in host else f"{message.protocol}://{host}")


def is_here(host: str) -> bool:
    """Whether an address is this machine's own: a loopback address, or one that a socket can be bound to here."""
    if host == "localhost":
        return True
    ip = _ip(host)
    return ip is not None and (ip.is_loopback or _can_bind(ip))


def _unbracketed(host: str) -> str:
    """Without the brackets that an IPv6 address has in a URL; people copy them along."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


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
            # Resolved, since bind() takes the zone of an IPv6 address from the last of its four parts only.
            probe.bind(socket.getaddrinfo(str(ip), 0, family, flags=socket.AI_NUMERICHOST)[0][4])
        except OSError:  # gaierror is one: a zone that this machine does not have
            return False
    return True
