"""The node's copy of what operators set of it at the router (requirement F3).

It outlives restarts, and is given to a router that lost its database. Of two the one changed last counts.
"""

import asyncio
from pathlib import Path
from typing import Self

import msgspec
from structlog.typing import FilteringBoundLogger

from llm_router.contract import UNREADABLE, NodeSettings
from llm_router.gateway.private import write_private


class KeptSettings:
    """`current` is what is known here."""

    def __init__(self, path: Path, current: NodeSettings, log: FilteringBoundLogger) -> None:
        self.current = current
        self._path = path
        self._log = log

    @classmethod
    def load(cls, path: Path, log: FilteringBoundLogger) -> Self:
        """Read the copy. Without one that can be read nothing is set; the router knows better, or nobody."""
        settings = NodeSettings()
        try:
            settings = msgspec.json.decode(path.read_bytes(), type=NodeSettings)
        except FileNotFoundError:
            pass
        except (OSError, *UNREADABLE) as error:
            log.warning("settings.unreadable", path=str(path), reason=str(error))
        return cls(path, settings, log)

    async def take(self, settings: NodeSettings) -> None:
        """Keep what a router says, if it was changed later than what is known here, and say so in the log.

        A copy that cannot be written counts until the node ends.
        """
        if settings.changed <= self.current.changed:
            return
        self.current = settings
        shown = msgspec.structs.asdict(settings)
        del shown["changed"]
        self._log.info("settings.changed", **shown)
        try:
            await asyncio.to_thread(write_private, self._path, msgspec.json.encode(settings))
        except OSError as error:
            self._log.warning("settings.not_kept", path=str(self._path), reason=error.strerror)
