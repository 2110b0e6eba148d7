"""A server that does not look at its standard input, with a process of ours around it that does.

So it ends with the agent, however that ended, and takes whatever it started with it. See `guard.py`.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from abc import abstractmethod
from asyncio.subprocess import PIPE, Process

import aiohttp

from llm_router.contract import Address
from llm_router.errors import UpstreamFailed
from llm_router.node.runtimes.guard import GRACE
from llm_router.node.runtimes.process import Moved, ServerProcess

# -P: whatever Python files lie in the directory the agent was started in are not imported.
GUARD = (sys.executable, "-P", "-m", "llm_router.node.runtimes.guard")
HERE = "127.0.0.1"
ASK_EVERY = 0.1  # seconds; a small model is loaded in less, a large one takes minutes
ANSWER_WITHIN = 2.0  # seconds


class GuardedProcess(ServerProcess):
    """One such server, on loopback, on a port that we choose."""

    def __init__(self, name: str, log: str, session: aiohttp.ClientSession, moved: Moved, *, wanted: int = 0) -> None:
        """`session`: for asking it whether it serves; `wanted`: its port, where that is free; the others as above."""
        super().__init__(name, log, moved)
        self._session = session
        self._wanted = wanted
        self._port = 0

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """What to run."""

    @abstractmethod
    def environment(self, port: int) -> dict[str, str]:
        """With which variables."""

    @abstractmethod
    async def failure(self, otherwise: str) -> UpstreamFailed:
        """Why it ended before it served; `otherwise`: where it did not say."""

    async def spawn(self) -> Process:
        """See `ServerProcess.spawn`."""
        self._port = port = free_port(self._wanted)
        return await asyncio.create_subprocess_exec(
            *(*GUARD, self.log, *self.command(port)),
            stdin=PIPE,  # stays open: the guard ends when it closes
            env=self.environment(port),
            start_new_session=True,
        )

    async def answering(self, process: Process, path: str, seconds: float) -> Address:
        """Wait until it answers 200 to this path, but so long at most.

        Raises:
            UpstreamFailed: it ended, or took too long.
        """
        address = Address(HERE, self._port)
        try:
            async with asyncio.timeout(seconds):
                answers = False
                while not answers:
                    await asyncio.sleep(ASK_EVERY)  # noqa: TID251 - it tells nobody that it is ready
                    answers = await self._answers(address.url + path)
                    if process.returncode is not None:  # and if somebody answers, it is somebody else
                        raise await self.failure("its process ended before it served")
        except TimeoutError:
            raise UpstreamFailed(f"it did not answer within {seconds:g} s") from None
        return address

    async def kill(self) -> None:
        """See `ServerProcess.kill`."""
        if sys.platform == "win32":  # has no process groups to end: the guard knows what to end, and takes a moment
            self._terminate()
            await self.ended(GRACE + 1)
        await super().kill()

    def _terminate(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def _watch(self, process: Process) -> None:
        """Nothing that it started outlives it, however it and its guard ended."""
        await process.wait()
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of zombies
                os.killpg(process.pid, signal.SIGKILL)
        await super()._watch(process)

    async def _answers(self, url: str) -> bool:
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
        try:
            async with self._session.get(url, timeout=timeout, headers={"connection": "close"}) as response:
                return response.status == 200
        except (TimeoutError, aiohttp.ClientError):
            return False


def free_port(wanted: int = 0) -> int:
    """This port of loopback if nobody listens there, else another one.

    Raises:
        UpstreamFailed: there is none.
    """
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            if sys.platform != "win32":  # there it would let two listen on one port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HERE, port))
            return int(probe.getsockname()[1])
    raise UpstreamFailed("this machine has no free port")
