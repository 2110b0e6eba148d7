"""Who may ask this node: its own machine, and its router.

    who                                       what
    a client of this machine (`trust`)        everything
    anybody                                   GET /health; the files of models, which take a ticket
    who shows the router's access token       everything
    anybody else                              401

A client that comes through a proxy is not this machine's, wherever the proxy is.
"""

import hmac

from llm_router.errors import Unauthorized
from llm_router.gateway.guard import EVERYBODY, Grant
from llm_router.gateway.trust import Trust
from llm_router.models.tickets import FILES
from llm_router.wire.heads import RequestHead

ANYBODY = Grant("public", "none")

_READS = frozenset({b"GET", b"HEAD"})
_FILES = f"{FILES}/".encode()
ROUTER = Grant("node", "admin")


class Gate:
    """The node's rules (`gateway.guard.Guard`)."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._token = b""

    def open_to(self, token: str) -> None:
        """Whoever shows this token is our router; a token from before is none any more."""
        self._token = token.encode()

    def admit(self, head: RequestHead, client: str, *, inference: bool) -> Grant:  # noqa: ARG002 - Guard's signature
        """See the table.

        Raises:
            Unauthorized: it is anybody else.
        """
        if self._token and head.credential and hmac.compare_digest(head.credential, self._token):
            return ROUTER
        if not head.forwarded and self._trust.covers(client):
            return EVERYBODY
        if head.method in _READS and (head.path == b"/health" or head.path.startswith(_FILES)):
            return ANYBODY
        raise Unauthorized("this node answers its own machine and its router alone: ask the router")
