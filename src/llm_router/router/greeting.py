"""What a router says when it has started: where it is, who may do what there, and how another machine joins.

The lines hold the join token and a login link, so they are for a terminal alone; what is kept in a file or a journal
gets what `open_to` says.
"""

import ipaddress
import sys
from collections.abc import Iterable

from llm_router.config import RouterConfig
from llm_router.contract import Address, parse_address
from llm_router.errors import BadRequest
from llm_router.router.announce import addresses_of
from llm_router.router.joining import join_command

ANY_IPV4, ANY_IPV6 = "0.0.0.0", "::"


class Reach:
    """Where this router can be reached. `port` is known when it listens."""

    def __init__(self, config: RouterConfig) -> None:
        self.port = config.port
        self._host = config.host
        self._tls = bool(config.tls_cert)

    async def addresses(self) -> list[str]:
        """URLs for other machines; none where it listens for this one alone."""
        return [Address(host, self.port, self._tls).url for host in await addresses_of(self._host)]

    def here(self) -> str:
        """The URL for this machine."""
        loopback = {ANY_IPV4: "127.0.0.1", "": "127.0.0.1", ANY_IPV6: "::1"}
        return Address(loopback.get(self._host, self._host), self.port, self._tls).url

    async def url(self, asked: str = "") -> str:
        """The URL to tell others. `asked`: the Host header of somebody who reached us, by a name that may be better."""
        if _means_us_elsewhere(asked):
            return f"{'https' if self._tls else 'http'}://{asked}"
        return next(iter(await self.addresses()), self.here())


async def open_to(config: RouterConfig, reach: Reach) -> dict[str, object]:
    """Who may do what, without secrets: for the log."""
    return {
        "this_machine": _this_machine(config),
        "others": _others(config, shared=bool(await reach.addresses())),
        "nodes": "all" if config.join == "open" else "of this machine, with the join token, or approved",
    }


async def greeting(config: RouterConfig, reach: Reach, token: str, login: str = "") -> list[str]:
    """The lines. `token`: the join token; `login`: the path of a one-time login link, where there is one."""
    shared = await reach.addresses()
    url = shared[0] if shared else reach.here()
    rows = [
        ("Address", ", ".join([reach.here(), *shared])),
        ("Here", _this_machine(config)),
        ("Others", _others(config, shared=bool(shared))),
        ("Dashboard", f"{url}{login or '/dashboard'}" + (" (opens once)" if login else "")),
    ]
    if shared:
        rows.append(("Join", join_command(url, "" if config.join == "open" else token)))
    return [f"  {label:<11}{value}" for label, value in rows]


def is_read() -> bool:
    """Whether a person reads along."""
    return sys.stdout.isatty()


def say(lines: Iterable[str]) -> None:
    """Print them."""
    sys.stdout.write("\n".join(["", *lines, "", ""]))
    sys.stdout.flush()


def _this_machine(config: RouterConfig) -> str:
    return "everything, with a key" if config.auth == "always" else "everything, without a key"


def _others(config: RouterConfig, *, shared: bool) -> str:
    if not shared:
        return "cannot reach it: it listens for this machine alone (--host)"
    if config.auth == "off":
        return "everything, without a key (--auth off)"
    return "with an API key: llm-router keys create"


def _means_us_elsewhere(host: str) -> bool:
    """Whether a Host header names an address, or a name, that means this router on another machine too."""
    try:
        name = parse_address(host).host
    except BadRequest:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return False
    try:
        ip = ipaddress.ip_address(name)
    except ValueError:
        return True
    return not (ip.is_loopback or ip.is_unspecified)
