"""How one node fetches a file of a model from another: an address that the router makes, and the node there checks.

    /v0/files/{model}/{name}?size=…&sha256=…&expires=…&ticket=…

A ticket is an HMAC-SHA256 over all of that, keyed with the access token by which the router is let in at that node: so
both know it, and nobody else. Who holds the ticket may read this one file, until it expires.

`sha256` is what the router knows of the file. It stands in the answer as the entity tag, without the node having read
the file for that: who fetches it checks it in any case. So a transfer that breaks goes on elsewhere where it broke.
"""

import hmac
import re
from collections.abc import Mapping
from hashlib import sha256 as sha
from urllib.parse import quote, urlencode

import msgspec

from llm_router.errors import Forbidden
from llm_router.models.manifest import Manifest

FILES = "/v0/files"
# Seconds for which a ticket counts. It is looked at when a transfer begins, and the asker gets another one for each
# try. Clocks of two machines that nobody sets may differ by many minutes.
LIFE = 2 * 3600.0

_NUMBER = re.compile(r"\d{1,18}")


class Ticket(msgspec.Struct, frozen=True):
    """What a ticket is for: a path, the file's bytes and SHA-256 in hexadecimal, and until when, since the epoch."""

    path: str
    size: int
    sha256: str
    expires: int

    def query(self, key: str) -> str:
        """The part of the address after `?`."""
        said = {"size": self.size, "sha256": self.sha256, "expires": self.expires, "ticket": _sign(key, self)}
        return urlencode(said)


def check(key: str, path: str, query: Mapping[str, str], now: float) -> Ticket:
    """The ticket of a request for `path`, as it stands in the request. `key`: "" where there is none; `now`: epoch.

    Raises:
        Forbidden: it is not one of ours, is for something else, or has expired.
    """
    size, expires = query.get("size", ""), query.get("expires", "")
    if not (key and _NUMBER.fullmatch(size) and _NUMBER.fullmatch(expires)):
        raise Forbidden("a ticket is needed, which the router gives to nodes (manifest.json, peers)")
    ticket = Ticket(path, int(size), query.get("sha256", ""), int(expires))
    if not hmac.compare_digest(_sign(key, ticket).encode(), query.get("ticket", "").encode()):
        raise Forbidden("this ticket is not for this file, or not from this node's router")
    if now > ticket.expires:
        raise Forbidden("this ticket has expired: ask the router for the manifest once more")
    return ticket


def _sign(key: str, ticket: Ticket) -> str:
    said = "\n".join((ticket.path, str(ticket.size), ticket.sha256, str(ticket.expires)))
    return hmac.new(key.encode(), said.encode(), sha).hexdigest()


def path(manifest: Manifest, number: int) -> str:
    """Where a node has the file of this number, from 0: percent-encoded, a slash in the model's name too."""
    return f"{FILES}/{quote(manifest.model, safe=':')}/{quote(stored_name(manifest, number))}"


def stored_name(manifest: Manifest, number: int) -> str:
    """The name of a file within a model as nodes keep it, whatever its origin calls it; GGUF: `model`, and its part."""
    if manifest.format != "gguf":
        return manifest.files[number].name
    count = len(manifest.files)
    return "model.gguf" if count == 1 else f"model-{number + 1:05}-of-{count:05}.gguf"
