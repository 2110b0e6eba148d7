"""Where models may come from (requirement H3). Decides only: `way` and `guarded` ask it before they connect.

An entry is `[scheme://]host[:port][/path]`, and `*` in it stands for any characters, or none:
    huggingface.co/*                https, port 443, every path
    *.hf.co/*                       every name below hf.co, however deep; not hf.co itself
    huggingface.co/acme/*           what one organisation has there
    http://models.example:8000/*    a scheme and a port of its own; `:*` is any port
    10.0.0.0/8/*, [fd00::/8]/*      addresses; those that are not public, also without TLS
Without a scheme, https is meant; without a port, the scheme's own; without a path, every path. No entries: nowhere.

A URL is refused, whatever the entries say, where programs read it differently, because the one that decides and the
one that fetches must mean the same place:
    1. it is neither http nor https, or has a user or a password (`https://huggingface.co@evil.example/`)
    2. its host is neither an address nor a plain name: other characters, or a number in place of a name
       (`http://2130706433/` is 127.0.0.1 for some: WHATWG URL, "ends in a number checker")
    3. its path, decoded as often as anybody might, has `.` or `..` as a segment, control characters, or is not UTF-8
    4. its path holds an encoded slash, and would not be allowed both with it and without
What is not public (loopback, private, link-local …) is allowed by an entry with that address or network alone, never
by a name or `*`. That also holds for what a name resolves to: anybody can give a name of theirs any address.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import TypeAlias
from urllib.parse import unquote

import msgspec
from yarl import URL

from llm_router.errors import ConfigError
from llm_router.models.failures import OriginDenied

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = {"https": 443, "http": 80}
NO_URL = (ValueError, IndexError)  # what yarl raises; IndexError in 1.25, for "https://[::1]@"
ROUNDS = 4  # times that a path may have been encoded; a proxy or two in front of a server may decode it once each

_ENTRY = re.compile(
    r"""(?: (?P<scheme> [a-z]+ ) :// )?
        (?P<host> \[ [0-9a-f:.]+ (?: /\d{1,3} )? \]             # an IPv6 address or network
                | \d+\.\d+\.\d+\.\d+ /\d{1,2} (?= [:/] | $ )    # an IPv4 network
                | [^/:@?\#\\\[\]\s]+ )                          # an IPv4 address, or a name
        (?: : (?P<port> \d{1,5} | \* ) )?
        (?P<path> / [^?\#\\\s]* )?""",
    re.IGNORECASE | re.VERBOSE,
)
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_GLOB = re.compile(r"[a-z0-9_*-]+(?:\.[a-z0-9_*-]+)*")
_NUMBERS = re.compile(r"[0-9.*]*[0-9][0-9.*]*")
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_SLASH = re.compile(r"%2f|%5c|\\", re.IGNORECASE)  # browsers and Windows take a backslash for one
_DOTS = re.compile(r"(?:^|/)\.\.?(?:;[^/]*)?(?:/|$)")  # Java's servers cut off what follows a semicolon
_UNCLEAR = re.compile(r"[\0-\x1f\x7f\ufffd]")  # U+FFFD: bytes that are not UTF-8
_HIDDEN_SLASH = "\0"  # stands for one that is encoded; only `*` matches it, and no path that is clear has it


class Allowlist:
    """The entries of a setting. `setting` is what people call it, for messages."""

    def __init__(self, patterns: Iterable[str], setting: str = "model_origins") -> None:
        """Blank entries do not count.

        Raises:
            ConfigError: an entry makes no sense.
        """
        self.setting = setting
        self._entries = [_entry(text, setting) for pattern in patterns if (text := pattern.strip())]

    def check(self, url: str | URL) -> None:
        """Nothing, if this URL may be fetched from, as far as it tells itself; a name still has to be resolved.

        Raises:
            OriginDenied: it may not; the message names the host, and the setting.
        """
        try:
            url = URL(url)
            host, path = _host(url), url.raw_path
        except NO_URL as error:
            raise OriginDenied(f"models may not be fetched from what is no URL: {error}") from error
        if (doubt := _doubt(url, host, path)) or not any(e.fits(url, host, path) for e in self._entries):
            place = f"{url.scheme}://{host}" + (f":{url.explicit_port}" if url.explicit_port else "")
            raise OriginDenied(f"models may not be fetched from {place}: {doubt or self._advice(place)}")

    def check_addresses(self, host: str, addresses: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of `addresses`, and ports, of a name that may be connected to.

        Raises:
            OriginDenied: there is none; the message says how to allow it.
        """
        found = list(addresses)
        allowed = [(address, port) for address, port in found if self._may_connect(_address(address), port)]
        if found and not allowed:
            raise OriginDenied(
                f"models may not be fetched from {host}: it has the address {found[0][0]}, which is not a public one; "
                f"if that is meant, add the address to {self.setting} as well"
            )
        return allowed

    def _may_connect(self, address: Address | None, port: int) -> bool:
        return address is not None and (
            is_public(address) or any(e.holds(address) and e.has_port(port, e.schemes) for e in self._entries)
        )

    def _advice(self, place: str) -> str:
        if not self._entries:
            return f"{self.setting} is empty"
        return f"{self.setting} does not have it; if it is to be trusted, add {place.removeprefix('https://')}/*"


class _Entry(msgspec.Struct, frozen=True):
    """`network` for addresses, else `name`. `port`: 0 is the scheme's own, None any."""

    schemes: tuple[str, ...]
    name: re.Pattern[str]
    network: Network | None
    port: int | None
    path: re.Pattern[str]

    def fits(self, url: URL, host: str, path: str) -> bool:
        """Whether it has this URL, of which nothing is in doubt."""
        if url.scheme not in self.schemes or not self.has_port(url.port or 0, (url.scheme,)):
            return False
        # An encoded slash is one for some and none for others: what is allowed if it is none, is so if it is one.
        return self._has_host(host) and self.path.fullmatch(_decoded(path, _HIDDEN_SLASH) or "") is not None

    def _has_host(self, host: str) -> bool:
        address = _address(host)
        if address is not None and (self.network is not None or not is_public(address)):
            return self.holds(address)
        return self.network is None and self.name.fullmatch(host) is not None

    def holds(self, address: Address) -> bool:
        """Whether it is an entry for this address."""
        return self.network is not None and (address in self.network or _inner(address) in self.network)

    def has_port(self, port: int, schemes: Iterable[str]) -> bool:
        """Whether it is an entry for this port, with one of these schemes."""
        if self.port is None:
            return True
        return port == self.port if self.port else port in [PORTS[scheme] for scheme in schemes]


# -- what an entry means


def _entry(text: str, setting: str) -> _Entry:
    match = _ENTRY.fullmatch(text)
    scheme = (match["scheme"] or "").lower() if match else ""
    if match is None or scheme not in ("", *PORTS):
        raise ConfigError(f"{setting} has {text!r}: expected host/path, or http://host:port/path")
    network = _network(match["host"])
    name = "" if network else _glob(match["host"], text, setting)
    path = _decoded(match["path"] or "/*", "/")
    if path is None:
        raise ConfigError(f"{setting} has {text!r}: its path is encoded more than {ROUNDS} times")
    return _Entry(_schemes(scheme, network), _pattern(name), network, _port(match["port"]), _pattern(path))


def _network(host: str) -> Network | None:
    try:
        return ipaddress.ip_network(host.strip("[]"))
    except ValueError:
        return None


def _glob(host: str, text: str, setting: str) -> str:
    """A name as it is compared: lower case, and as the domain name system has it."""
    if _NUMBERS.fullmatch(host) or "[" in host or "/" in host:
        raise ConfigError(f"{setting} has {text!r}: write addresses as 192.168.0.0/16 or [fd00::/8], with every digit")
    try:
        labels = [label if label.isascii() else _in_ascii(label) for label in host.lower().removesuffix(".").split(".")]
    except ValueError as error:
        raise ConfigError(f"{setting} has {text!r}: {error}") from error
    name = ".".join(labels)
    if not _GLOB.fullmatch(name):
        raise ConfigError(f"{setting} has {text!r}: no host has such a name")
    return name


def _in_ascii(label: str) -> str:
    """As yarl and so aiohttp encode it (IDNA 2008), where Python's own codec has IDNA 2003, and other names."""
    if "*" in label:
        raise ValueError(f"no * beside letters that are not ASCII: {label}")
    return URL.build(scheme="https", host=label).raw_host or ""


def _schemes(scheme: str, network: Network | None) -> tuple[str, ...]:
    if scheme:
        return (scheme,)
    return ("https",) if network is None or is_public(network[0]) else ("https", "http")


def _port(text: str | None) -> int | None:
    return None if text == "*" else int(text or 0)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)


# -- what a URL means


def _host(url: URL) -> str:
    """As aiohttp looks it up, but for the case and a dot at the end."""
    return (url.raw_host or "").lower().removesuffix(".")


def _doubt(url: URL, host: str, path: str) -> str:
    """Why it may mean another place to another program; empty where it cannot."""
    if url.scheme not in PORTS:
        return "only https and http can be fetched"
    if "@" in url.raw_authority:
        return "a user or password in a URL can hide where it leads"
    if _address(host) is None and (not _NAME.fullmatch(host) or _ENDS_IN_NUMBER.fullmatch(host)):
        return "that is no name of a host"
    decoded = _decoded(path, "/")
    if decoded is None or _DOTS.search(decoded) or _UNCLEAR.search(decoded):
        return "its path can be read in more than one way"
    return ""


def _decoded(path: str, slash: str) -> str | None:
    """With nothing encoded any more, and `slash` for slashes that were. None: it is encoded too often."""
    for _ in range(ROUNDS + 1):
        before = path
        path = unquote(_SLASH.sub(slash, path))
        if path == before:
            return path
    return None


# -- addresses


def is_public(address: Address) -> bool:
    """Whether it belongs to one machine in the internet, and not to this one or its network."""
    address = _inner(address)
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast


_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291, 2.4, and what IANA has given out of it
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052, 2.1


def _inner(address: Address) -> Address:
    """The IPv4 address that packets to this one end up at, where it holds one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])  # behind the % stands an interface
    except ValueError:
        return None
