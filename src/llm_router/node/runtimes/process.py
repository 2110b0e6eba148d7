"""A server of ours that runs as a process: start it, know when it serves, know when it ends, end it.

What kind of server it is, a subclass says: how it is spawned, and how it is known to serve.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from asyncio.subprocess import Process
from collections.abc import Callable
from typing import TypeAlias

from llm_router.contract import Address
from llm_router.errors import UpstreamFailed

KILL_AFTER = 5.0  # seconds between SIGTERM and SIGKILL

Moved: TypeAlias = Callable[[Address | None, str], None]


class OutOfMemory(UpstreamFailed):
    """It could not be started since this machine's memory, or its graphics processor's, is used up."""


class ServerProcess(ABC):
    """One server's process, running or not; it can be started again after it ended.

    `moved` is called with its address when it serves, with None and the reason when it has ended or did not come up.
    """

    def __init__(self, name: str, log: str, moved: Moved) -> None:
        """`name`: what it is called in messages. `log`: the file that its output goes to."""
        self.name = name
        self.log = log
        self.address: Address | None = None
        self._moved = moved
        self._process: Process | None = None
        self._starting: asyncio.Task[Address] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._ending = False

    @abstractmethod
    async def spawn(self) -> Process:
        """Start the process, in a session of its own: Ctrl-C in the terminal is for the agent, which ends it in order.

        Raises:
            OSError: it cannot be started.
        """

    @abstractmethod
    async def serving(self, process: Process) -> Address:
        """Wait until it serves.

        Raises:
            UpstreamFailed: it never will; the message says why.
        """

    @property
    def pid(self) -> int | None:
        """The running process's id."""
        return self._process.pid if self._process else None

    @property
    def exists(self) -> bool:
        """There is a process, whether it serves or not, or one is being made."""
        return self._process is not None or self._starting is not None

    async def wake(self) -> Address:
        """Where it serves. Starts it where it does not run; several callers share one start.

        Raises:
            UpstreamFailed: it did not come up; the message says why.
        """
        if self.address is not None:
            return self.address
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._forget_start)
        return await asyncio.shield(self._starting)  # one caller who goes away must not end it for the others

    async def end(self) -> None:
        """End the process, by force if need be, and wait for it. Callers of `wake` get UpstreamFailed."""
        self._ending = True
        try:
            self._terminate()
            try:
                async with asyncio.timeout(KILL_AFTER):
                    await self._gone()
            except TimeoutError:
                self._kill()
                await self._gone()
        finally:
            self._ending = False

    async def kill(self) -> None:
        """End a process that serves but does not react, and wait for it. SIGTERM is not even seen by a stopped one."""
        self._kill()
        await self._gone()

    async def ended(self, seconds: float) -> None:
        """Wait so long for it to end by itself."""
        if self._watching is not None:
            await asyncio.wait({self._watching}, timeout=seconds)

    async def _gone(self) -> None:
        """Until no start is under way and what was started has ended."""
        if self._starting is not None:
            await asyncio.wait({self._starting})  # unlike awaiting a task, this can be cancelled without cancelling it
        if self._watching is not None:
            await asyncio.wait({self._watching})

    async def _start(self) -> Address:
        process = await self._spawn()
        failure = UpstreamFailed("its process ended")
        try:
            address = await self.serving(process)
        except UpstreamFailed as error:
            failure = error
            if self._process is process:
                self._kill()
            if self._watching is not None:
                await asyncio.wait({self._watching})  # its memory is free again when this is heard of
        else:
            if self._process is process:
                self.address = address
                self._moved(address, "")
                return address
        raise type(failure)(f"{self.name} could not be started: {failure.message} (see {self.log})")

    async def _spawn(self) -> Process:
        try:
            process = await self.spawn()
        except OSError as error:
            raise UpstreamFailed(f"{self.name}: no process could be started: {error}") from error
        self._process = process
        self._watching = asyncio.create_task(self._watch(process))
        if self._ending:  # asked to end while it was being made
            self._terminate()
        return process

    async def _watch(self, process: Process) -> None:
        status = await process.wait()
        self._process = None
        if self.address is not None:
            self.address = None
            self._moved(None, f"the process of {self.name} ended {_how(status)} (see {self.log})")

    def _terminate(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and nobody has told us yet
                self._process.terminate()

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _forget_start(self, task: asyncio.Task[Address]) -> None:
        self._starting = None
        error = None if task.cancelled() else task.exception()  # seen, also when every caller went away
        if isinstance(error, UpstreamFailed):
            self._moved(None, error.message)


def _how(status: int) -> str:
    """As subprocesses tell: an exit status, or the negative number of a signal."""
    return f"by signal {-status}" if status < 0 else f"with status {status}"
