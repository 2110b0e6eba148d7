"""Who this node is: an id that it made once, and the secret that each router gave it.

Both lie in one file that only the node's user can read; a node without it is a new one to its router.
"""

from pathlib import Path
from typing import Self
from uuid import uuid4

import msgspec

from llm_router.contract import UNREADABLE
from llm_router.errors import ConfigError
from llm_router.node.files import write_private


class _File(msgspec.Struct):
    node_id: str
    secrets: dict[str, str] = {}


_HERE = ("http://127.0.0.1:", "http://localhost:", "http://[::1]:")  # how URLs of routers on this machine begin


class Identity:
    """The node's id, and its secrets by the URL of the router that gave them."""

    def __init__(self, path: Path, node_id: str, secrets: dict[str, str]) -> None:
        self.path = path
        self.node_id = node_id
        self._secrets = secrets

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `path`; where it is missing, become a new node.

        Raises:
            ConfigError: the file cannot be read, is not one of ours, or cannot be written.
        """
        try:
            known = msgspec.json.decode(path.read_bytes(), type=_File)
        except FileNotFoundError:
            new = cls(path, str(uuid4()), {})
            new._save()
            return new
        except (OSError, *UNREADABLE) as error:
            raise ConfigError(f"{path}: {error}; delete it to join as a new node") from error
        return cls(path, known.node_id, known.secrets)

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

    def _save(self) -> None:
        """To outlive a power cut: a router that has given us a secret keeps to it."""
        try:
            write_private(self.path, msgspec.json.encode(_File(self.node_id, self._secrets)))
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}") from error


def _is_here(url: str) -> bool:
    return url.startswith(_HERE)
