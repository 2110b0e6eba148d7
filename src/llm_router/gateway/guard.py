"""Who may do what: asked once for every request, of every path, before anything is done for it.

What a router's or a node's rules are, its own guard says; without one, everybody may do everything.
"""

from typing import Literal, Protocol
from urllib.parse import quote

import msgspec

from llm_router.wire.heads import RequestHead

Scope = Literal["inference", "admin", "none"]


class Grant(msgspec.Struct, frozen=True):
    """Who is asking, and what for: `models` are those that may be asked for, all where it is empty.

    `via`: how that is known. `name`: of a key or a person, "" where there is none.
    """

    via: Literal["local", "key", "session", "public", "node"]
    scope: Scope
    name: str = ""
    models: frozenset[str] = frozenset()

    def line(self) -> str:
        """As a header carries it to the control app: `via;scope;name`."""
        return f"{self.via};{self.scope};{quote(self.name)}"


EVERYBODY = Grant("local", "admin")


class Guard(Protocol):
    """The rules of one gateway."""

    def admit(self, head: RequestHead, client: str, *, inference: bool) -> Grant:
        """What this request may do. `client` is the address that it comes from; `inference`: it asks for a model.

        Raises:
            Unauthorized: nobody knows who is asking.
            Forbidden, HostNotAllowed: it is known, and not allowed.
            TooManyAttempts: too many wrong keys came from there.
        """
