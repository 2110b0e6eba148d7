"""Who this node is: an id that it made once, and what it shares with each router.

    secret    the router gave it to us, and we show it with each call: it says that we are who we are
    access    we gave it to the router, which shows it with each request: it says that the router may ask us
    join      a person gave it to us, to come in by where we are new

They lie in one file that only the node's user can read; a node without it is a new one to its router.
"""

import secrets
from pathlib import Path
from typing import Self
from uuid import uuid4

import msgspec

from llm_router.contract import UNREADABLE
from llm_router.errors import ConfigError
from llm_router.gateway.private import write_private


class _File(msgspec.Struct):
    node_id: str
    secrets: dict[str, str] = {}
    access: dict[str, str] = {}
    join: dict[str, str] = {}


ACCESS_BYTES = 32  # of chance: nobody guesses it

_HERE = ("http://127.0.0.1:", "http://localhost:", "http://[::1]:")  # how URLs of routers on this machine begin


class Identity:
    """The node's id, and what it shares with routers, by their URLs."""

    def __init__(self, path: Path, known: _File) -> None:
        self.path = path
        self.node_id = known.node_id
        self._known = known
        self._secrets = known.secrets

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `path`; where it is missing, become a new node.

        Raises:
            ConfigError: the file cannot be read, is not one of ours, or cannot be written.
        """
        try:
            known = msgspec.json.decode(path.read_bytes(), type=_File)
        except FileNotFoundError:
            new = cls(path, _File(str(uuid4())))
            new._save()
            return new
        except (OSError, *UNREADABLE) as error:
            raise ConfigError(f"{path}: {error}; delete it to join as a new node") from error
        return cls(path, known)

    def secret(self, router: str) -> str:
        """What this router gave us; empty where it gave nothing yet.

        One on this machine that gave nothing is taken for the last one that did: it may have had another port then.
        """
        if router in self._secrets or not _is_here(router):
            return self._secrets.get(router, "")
        return next((self._secrets[url] for url in reversed(self._secrets) if _is_here(url)), "")

    def keep(self, router: str, secret: str) -> None:
        """Remember what a router gave us.

        Raises:
            ConfigError: the file cannot be written.
        """
        if self._secrets.get(router) != secret:
            self._secrets[router] = secret
            self._save()

    def access(self, router: str) -> str:
        """The token by which this router may ask us; made the first time. Raises as `keep` does."""
        if router not in self._known.access:
            self._known.access[router] = secrets.token_urlsafe(ACCESS_BYTES)
            self._save()
        return self._known.access[router]

    def join_token(self, router: str, given: str) -> str:
        """The token to join this router by: the one that is `given`, which is kept, or else the one kept before.

        Raises as `keep` does.
        """
        if given and self._known.join.get(router) != given:
            self._known.join[router] = given
            self._save()
        return self._known.join.get(router, "")

    def _save(self) -> None:
        """To outlive a power cut: a router that has given us a secret keeps to it."""
        try:
            write_private(self.path, msgspec.json.encode(self._known))
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}") from error


def _is_here(url: str) -> bool:
    return url.startswith(_HERE)
