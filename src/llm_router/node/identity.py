"""Who this node is: an id that it made once, and the secret that each router gave it.

Both lie in one file that only the node's user can read; a node without it is a new one to its router.
"""

import os
from pathlib import Path
from typing import Self
from uuid import uuid4

import msgspec

from llm_router.contract import UNREADABLE
from llm_router.errors import ConfigError


class _File(msgspec.Struct):
    node_id: str
    secrets: dict[str, str] = {}


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
        """What this router gave us; empty where it gave nothing yet."""
        return self._secrets.get(router, "")

    def keep(self, router: str, secret: str) -> None:
        """Remember what a router gave us.

        Raises:
            ConfigError: the file cannot be written.
        """
        if self._secrets.get(router) != secret:
            self._secrets[router] = secret
            self._save()

    def _save(self) -> None:
        """Whole or not at all, and never readable by others, not even for a moment."""
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.encode(_File(self.node_id, self._secrets)))
                file.flush()
                os.fsync(file.fileno())  # a router that was told of a secret keeps to it: it must outlive a power cut
            partial.replace(self.path)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}") from error
