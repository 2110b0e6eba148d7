"""Where the join token is kept: in a file, in the database that replicas share, or in the settings."""

import asyncio
import re
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from llm_router.config import RouterConfig
from llm_router.errors import ConfigError, Conflict, Unavailable
from llm_router.gateway.private import write_private
from llm_router.router.joining import Keeping
from llm_router.router.store import shared_values
from llm_router.router.store.database import Database

NAME = "join-token"  # of the file, and of the database's value
SETTING = "LLM_ROUTER_JOIN_TOKEN"
# What can stand before the @ of a URL as it is (RFC 3986, section 2.3), and is not guessed.
_WORD = re.compile(r"[A-Za-z0-9._~-]{16,128}")


class InFile:
    """A file that only the router's user can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def load(self) -> str:
        """See `Keeping`, here and below. Raises ConfigError."""
        try:
            return (await asyncio.to_thread(self._path.read_text, "ascii")).strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self._path}: {error}; delete it, and a new one is made") from error

    async def save(self, word: str) -> str:  # noqa: D102
        await self.replace(word)
        return word

    async def replace(self, word: str) -> None:  # noqa: D102
        try:
            await asyncio.to_thread(write_private, self._path, f"{word}\n".encode())
        except OSError as error:
            raise ConfigError(f"{self._path} cannot be written: {error.strerror}") from error


class InDatabase:
    """The database, where every replica finds it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> str:
        """See `Keeping`, here and below. Raises Unavailable."""
        try:
            return await self._database.run(shared_values.load, NAME) or ""
        except SQLAlchemyError as error:
            raise Unavailable("the database cannot be read: the router's log says why") from error

    async def save(self, word: str) -> str:  # noqa: D102
        try:
            return await self._database.run(shared_values.put_new, NAME, word)
        except SQLAlchemyError as error:
            raise Unavailable("the database cannot be written: the router's log says why") from error

    async def replace(self, word: str) -> None:  # noqa: D102
        try:
            await self._database.run(shared_values.put, NAME, word)
        except SQLAlchemyError as error:
            raise Unavailable("the database cannot be written: the router's log says why") from error


class InSettings:
    """The settings: whoever starts routers and nodes together knows it before they do."""

    def __init__(self, word: str) -> None:
        """Raises ConfigError: it could be guessed, or cannot stand in a URL."""
        if not _WORD.fullmatch(word):
            raise ConfigError(f"{SETTING}: 16 to 128 letters, digits and -._~ are wanted, since it stands in URLs")
        self._word = word

    async def load(self) -> str:
        """See `Keeping`, here and below."""
        return self._word

    async def save(self, word: str) -> str:  # noqa: ARG002, D102
        return self._word

    async def replace(self, word: str) -> None:  # noqa: ARG002, D102
        raise Conflict(f"the join token is given by {SETTING}: change it there, and start the router again")


def keeping_of(config: RouterConfig, database: Database) -> Keeping:
    """The place that the settings name. Raises ConfigError: they give a token that is none."""
    if config.join_token:
        return InSettings(config.join_token)
    return InDatabase(database) if database.shared else InFile(config.home / "router" / NAME)
