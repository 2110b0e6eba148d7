"""The agent's side of one `llamacpp_child`: start it, know when it serves, know when it ends, end it."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

import msgspec

from llm_router.contract import Address
from llm_router.errors import UpstreamFailed
from llm_router.node.runtimes.llamacpp_child import Answer, Settings

# -P: whatever Python files lie in the directory the agent was started in are not imported.
CHILD = (sys.executable, "-P", "-m", "llm_router.node.runtimes.llamacpp_child")
LOAD_WITHIN = 300.0  # seconds; Ollama gives a model as long (OLLAMA_LOAD_TIMEOUT)
KILL_AFTER = 5.0  # seconds between SIGTERM and SIGKILL


class ModelProcess:
    """One model's process, running or not; it can be started again after it ended.

    `moved` is called with its address when it serves, with None and the reason when it has ended or did not come up.
    """

    def __init__(self, settings: Settings, moved: Callable[[Address | None, str], None]) -> None:
        self.settings = settings
        self.address: Address | None = None
        self._moved = moved
        self._process: Process | None = None
        self._starting: asyncio.Task[Address] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._ending = False

    @property
    def pid(self) -> int | None:
        """The running process's id."""
        return self._process.pid if self._process else None

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
                if self._process is not None:
                    self._process.kill()
                await self._gone()
        finally:
            self._ending = False

    async def kill(self) -> None:
        """End a process that serves but does not react, and wait for it. SIGTERM is not even seen by a stopped one."""
        if self._process is not None:
            self._process.kill()
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
        answer = await self._answer_of(process)
        if answer.error or self._process is not process:
            raise UpstreamFailed(f"{self.settings.id} could not be started: {answer.error or 'its process ended'}")
        self.address = Address("127.0.0.1", answer.port)
        self._moved(self.address, "")
        return self.address

    async def _spawn(self) -> Process:
        try:
            # A session of its own: Ctrl-C in the terminal is for the agent, which lets requests end first.
            process = await asyncio.create_subprocess_exec(*CHILD, stdin=PIPE, stdout=PIPE, start_new_session=True)
        except OSError as error:
            raise UpstreamFailed(f"{self.settings.id}: no process could be started: {error}") from error
        self._process = process
        self._watching = asyncio.create_task(self._watch(process))
        if self._ending:  # asked to end while it was being made
            self._terminate()
        return process

    async def _answer_of(self, process: Process) -> Answer:
        assert process.stdin  # noqa: S101 - both are pipes, see _spawn
        assert process.stdout  # noqa: S101
        process.stdin.write(msgspec.json.encode(self.settings) + b"\n")  # stays open: the child ends when it closes
        try:
            async with asyncio.timeout(LOAD_WITHIN):
                line = await process.stdout.readline()
        except TimeoutError:
            process.kill()
            return Answer(error=f"not loaded within {LOAD_WITHIN:.0f} s (see {self.settings.log})")
        if not line:
            return Answer(error=f"its process ended before it served (see {self.settings.log})")
        return msgspec.json.decode(line, type=Answer)

    async def _watch(self, process: Process) -> None:
        status = await process.wait()
        self._process = None
        if self.address is not None:
            self.address = None
            self._moved(None, f"the process of {self.settings.id} ended {_how(status)} (see {self.settings.log})")

    def _terminate(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def _forget_start(self, task: asyncio.Task[Address]) -> None:
        self._starting = None
        error = None if task.cancelled() else task.exception()  # seen, also when every caller went away
        if isinstance(error, UpstreamFailed):
            self._moved(None, error.message)


def _how(status: int) -> str:
    """As subprocesses tell: an exit status, or the negative number of a signal."""
    return f"by signal {-status}" if status < 0 else f"with status {status}"
