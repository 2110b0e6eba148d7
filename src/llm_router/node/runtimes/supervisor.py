"""A server's process under supervision: a model's, or a runtime's.

    what happens                       what follows
    it serves                          it is looked at every LOOK_EVERY seconds, and at once when a request failed
    LOOKS looks in a row are in vain   it hangs, and is killed; the rest is as if it had ended by itself
    it ended while it was in use       it is started again, after the pause that is due
    it ended otherwise                 its next request starts it
    it ended or did not start, again   the next start has to wait, see `pause`; a request is told why at once, so that
                                       another node can have it, unless the wait is short

Rule: whatever the process does arrives at `_on_moved`, once.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Literal

import aiohttp
from structlog.typing import FilteringBoundLogger

from llm_router.contract import Address
from llm_router.errors import UpstreamFailed
from llm_router.node.runtimes.process import Moved, ServerProcess

LOOK_EVERY = 5.0  # seconds, as attached servers are looked at
LOOK_WITHIN = 5.0  # seconds; llama.cpp's HTTP threads answer in milliseconds, also with 200 streams open (measured)
LOOKS = 2  # one can be missed by a machine, or an agent, that stood still for a moment, and killing breaks streams
END_HEARD_WITHIN = 0.2  # seconds from the moment a process that died refuses connections until we are told that it did

FIRST_PAUSE = 1.0  # seconds
LONGEST_PAUSE = 60.0
STEADY_AFTER = LONGEST_PAUSE  # seconds of service after which a process that ends is the first one in a row again
WORTH_WAITING = 2.0  # seconds that a request rather waits for a start than is told no


def pause(failures: int) -> float:
    """Seconds until the next start after `failures` in a row: none after the first, then 1, doubling to 60."""
    return 0.0 if failures < 2 else min(LONGEST_PAUSE, math.ldexp(FIRST_PAUSE, min(failures - 2, 10)))


class Supervisor:
    """Keeps one process in service once somebody has asked for it."""

    def __init__(
        self,
        kind: Literal["model", "runtime"],
        process: Callable[[Moved], ServerProcess],
        session: aiohttp.ClientSession,
        log: FilteringBoundLogger,
        *,
        in_use: Callable[[], bool],
        moved: Callable[[Address | None], None],
    ) -> None:
        """Say what to look after, and whom to tell.

        Args:
            kind: what it serves, as the log has it.
            process: makes the process, given what is to be told what it does.
            session: for looks at it.
            log: for what happens to it.
            in_use: whether anybody waits for an answer of it.
            moved: called with the process's address when it serves, with None when it has ended without `end`.
        """
        self._kind = kind
        self._session = session
        self._in_use = in_use
        self._moved = moved
        self._process = process(self._on_moved)
        self.name = self._process.name
        self._log = log.bind(**{kind: self.name})
        self._one_look = asyncio.Lock()
        self._since: float | None = None  # when it began to serve, while it does
        self._lost = False  # it served, and ended by itself
        self._failures = 0
        self._reason = ""
        self._not_before = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def address(self) -> Address | None:
        """Where it serves, if it does."""
        return self._process.address

    @property
    def exists(self) -> bool:
        """It has a process, or is about to start one: it takes memory, or soon will."""
        return self._process.exists or (self._restarting is not None and not self._restarting.done())

    async def wake(self) -> Address:
        """Where it serves. Starts it where it does not run; several callers share one start.

        Raises:
            UpstreamFailed: it did not come up, or is not to be tried again yet; the message says why.
        """
        if self.address is not None:
            return self.address
        wait = self._wait()
        if wait > WORTH_WAITING:
            raise UpstreamFailed(f"{self._reason}; it is tried again in {wait:.0f} s")
        return await self._start(wait)

    async def check(self) -> None:
        """A request to it failed: look now, and start it again if it is gone."""
        await self._look()
        if self._lost:
            self._restart()

    async def end(self) -> None:
        """End it for good, and wait for it."""
        self._closed = True
        tasks = [task for task in (self._looking, self._restarting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._process.end()

    # -- starts

    def _wait(self) -> float:
        return max(0.0, self._not_before - time.monotonic())

    async def _start(self, wait: float) -> Address:
        await asyncio.sleep(wait)  # noqa: TID251 - a pause between two attempts
        if self._closed:
            raise UpstreamFailed(f"{self.name} is not started: this node is stopping, or has it no more")
        return await self._process.wake()

    def _restart(self) -> None:
        if not self._closed and (self._restarting is None or self._restarting.done()):
            self._restarting = asyncio.create_task(self._start_again())

    async def _start_again(self) -> None:
        try:
            await self._start(self._wait())
        except UpstreamFailed:
            return  # logged where it was counted; the next request tries again

    # -- what the process does

    def _on_moved(self, address: Address | None, reason: str) -> None:
        since, self._since = self._since, None
        if self._closed:
            return
        if address is not None:
            self._serves(address)
        else:
            self._ended(since, reason)

    def _serves(self, address: Address) -> None:
        self._since, self._lost = time.monotonic(), False
        self._log.info(f"{self._kind}.started", url=address.url)
        self._moved(address)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._keep_looking())

    def _ended(self, since: float | None, reason: str) -> None:
        """It served `since` then and does no more, or did not come up (None)."""
        now = time.monotonic()
        steady = since is not None and now - since >= STEADY_AFTER
        self._failures = 1 if steady else self._failures + 1
        self._not_before = now + pause(self._failures)
        self._reason = reason
        self._lost = since is not None
        event = f"{self._kind}.process_ended" if self._lost else f"{self._kind}.start_failed"
        self._log.warning(event, reason=reason, failures=self._failures)
        if self._lost:
            if self._in_use():
                self._restart()
            self._moved(None)

    # -- looks

    async def _keep_looking(self) -> None:
        while self.address is not None:
            await asyncio.sleep(LOOK_EVERY)  # noqa: TID251 - the pause between two looks
            await self._look()

    async def _look(self) -> None:
        """See whether it answers, and kill it if it does not."""
        async with self._one_look:
            address = self.address
            for _ in range(LOOKS):
                if address is None or address != self.address or await self._answers(address):
                    return
                await self._process.ended(END_HEARD_WITHIN)
            if address == self.address:
                await self._replace()

    async def _answers(self, address: Address) -> bool:
        """Whatever it answers, it lives. The connection is not kept: it would occupy one of llama.cpp's threads."""
        timeout = aiohttp.ClientTimeout(total=LOOK_WITHIN)
        headers = {"connection": "close"}
        try:
            async with self._session.get(f"{address.url}/health", timeout=timeout, headers=headers):
                return True
        except (TimeoutError, aiohttp.ClientError):
            return False

    async def _replace(self) -> None:
        self._log.warning(f"{self._kind}.process_hung", log=self._process.log)
        in_use = self._in_use()  # as long as its connections stand
        await self._process.kill()
        if in_use:
            self._restart()
