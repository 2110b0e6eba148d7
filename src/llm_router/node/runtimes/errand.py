"""Something to be fetched, tried until it is there: the network, or somebody, will help in time."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from structlog.typing import FilteringBoundLogger

from llm_router.contract import Progress
from llm_router.errors import RouterError

FIRST_PAUSE = 60.0  # seconds: every attempt has tried several times itself
LONGEST_PAUSE = 3600.0
WAITING = "is tried again"

T = TypeVar("T")


def pause(failures: int) -> float:
    """Seconds until the next attempt after `failures`, 1 or more: a minute, doubling to an hour."""
    return min(LONGEST_PAUSE, math.ldexp(FIRST_PAUSE, min(failures - 1, 10)))


class Errand:
    """One such thing, by its name. `waiting` is what people are to know of it between two attempts."""

    def __init__(self, kind: Literal["runtime", "model"], name: str, log: FilteringBoundLogger) -> None:
        self.waiting: Progress | None = None
        self._kind: Literal["runtime", "model"] = kind
        self._name = name
        self._log = log
        self._said = ""

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt` returns, when it does; until then, each RouterError is followed by another attempt."""
        failures = 0
        while True:
            self.waiting = None
            try:
                return await attempt()
            except RouterError as error:
                failures += 1
                self._tell(error.message, pause(failures))
            await asyncio.sleep(pause(failures))  # noqa: TID251 - the pause between two attempts

    def _tell(self, reason: str, wait: float) -> None:
        """A reason is said once; what follows is for those who debug."""
        write = self._log.debug if reason == self._said else self._log.warning
        write(f"{self._kind}.fetch_failed", name=self._name, reason=reason, retry_in=wait)
        self._said = reason
        self.waiting = Progress(self._kind, self._name, WAITING)
