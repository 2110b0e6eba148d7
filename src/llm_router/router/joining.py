"""Who may join: nodes of this machine at once, others with the join token, the rest when an operator approves.

    where it stands   shows                     may come in          may not come in
    new               -                         registers            waits (pending)
    pending           its secret                is approved by that  goes on waiting
    pending           another secret, or none   is approved by that  goes on waiting     both: or 403, see below
    in                its secret                registers            registers
    in                another secret, or none   registers            403                 both: or 403, see below

"May come in": from this machine, with the join token, or by `--join open`. "See below": who never showed the secret
that it was given may have lost the answer, and gets another; who has shown it once comes back with it or not at all.

Rule 1: the token is compared in constant time, and stands in no log, error or event.
Rule 2: a proxy on this machine does not make its clients this machine's.
"""

import hmac
import ipaddress
import secrets
from typing import Literal, Protocol

from llm_router.gateway.trust import Trust
from llm_router.router.addresses import is_here

TOKEN_BYTES = 24  # of chance: nobody guesses it, and it is one line of a terminal with the address around it
# Nodes that may wait at once. Who waits sends a heartbeat every 5 s; beyond a fleet's size, it is noise or an attack.
PENDING_LIMIT = 1000


class Keeping(Protocol):
    """Where the join token is kept."""

    async def load(self) -> str:
        """What is kept; "": nothing yet. Raises RouterError: it cannot be read."""

    async def save(self, word: str) -> str:
        """Keep the first one there ever was; which one is kept now. Raises RouterError: it cannot be written."""

    async def replace(self, word: str) -> None:
        """Keep another one. Raises RouterError: it cannot be written, and the old one stays."""


class JoinToken:
    """The word by which machines join. `restore` before use."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self.word = ""

    async def restore(self) -> None:
        """Read it; at the first start, make it. Raises RouterError: it cannot be read or written."""
        self.word = await self._keeping.load() or await self._keeping.save(_new_word())

    async def rotate(self) -> None:
        """Make a new one; the old one opens nothing from now on, and nodes that have joined stay.

        Raises:
            RouterError: it cannot be written; the old one still counts.
        """
        word = _new_word()
        await self._keeping.replace(word)
        self.word = word

    def matches(self, shown: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(shown.encode(), self.word.encode())


def _new_word() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


class Door:
    """Decides who comes in without being asked about."""

    def __init__(self, token: JoinToken, trust: Trust, mode: Literal["token", "open"]) -> None:
        self.token = token
        self._trust = trust
        self._open = mode == "open"

    def lets_in(self, shown: str, client: str, *, forwarded: bool) -> bool:
        """Whether who shows this token (or "") from this address may join. `forwarded`: a proxy stands in between."""
        return self._open or (not forwarded and self._is_ours(client)) or self.token.matches(shown)

    def _is_ours(self, client: str) -> bool:
        """A loopback address is what the setting `trust` says; any other that is ours was not sent from elsewhere."""
        return self._trust.covers(client) or (not _is_loopback(client) and is_here(client))


def _is_loopback(host: str) -> bool:
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return ((ip.version == 6 and ip.ipv4_mapped) or ip).is_loopback


def join_command(url: str, token: str) -> str:
    """What to type on another machine so that it joins the router at `url`; `token` is "" where none is needed.

    In a variable, since everybody on that machine can read command lines.
    """
    scheme, _, place = url.partition("://")
    return f"ROUTER_URL={scheme}://{token}{'@' if token else ''}{place} llm-router node"
