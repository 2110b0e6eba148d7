"""The agent's side of one `child`."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import msgspec

from llm_router.contract import Address
from llm_router.errors import UpstreamFailed
from llm_router.node.runtimes.llamacpp.child import Answer, Settings
from llm_router.node.runtimes.llamacpp.log import why_not_loaded
from llm_router.node.runtimes.process import Moved, ServerProcess

# -P: whatever Python files lie in the directory the agent was started in are not imported.
CHILD = (sys.executable, "-P", "-m", "llm_router.node.runtimes.llamacpp.child")
LOAD_WITHIN = 300.0  # seconds; Ollama gives a model as long (OLLAMA_LOAD_TIMEOUT)
ENDS_WITHIN = 5.0  # seconds for a process that has failed to end by itself
KILLED = -9


class ModelProcess(ServerProcess):
    """The process that runs one model."""

    def __init__(self, settings: Settings, moved: Moved) -> None:
        super().__init__(settings.id, settings.log, moved)
        self.settings = settings

    async def spawn(self) -> Process:
        """See `ServerProcess.spawn`."""
        return await asyncio.create_subprocess_exec(*CHILD, stdin=PIPE, stdout=PIPE, start_new_session=True)

    async def serving(self, process: Process) -> Address:
        """See `ServerProcess.serving`: the child says it in a line."""
        assert process.stdin  # noqa: S101 - both are pipes, see `spawn`
        assert process.stdout  # noqa: S101
        process.stdin.write(msgspec.json.encode(self.settings) + b"\n")  # stays open: the child ends when it closes
        try:
            async with asyncio.timeout(LOAD_WITHIN):
                line = await process.stdout.readline()
        except TimeoutError:
            raise UpstreamFailed(f"not loaded within {LOAD_WITHIN:.0f} s") from None
        answer = msgspec.json.decode(line, type=Answer) if line else Answer(error=await _how_it_ended(process))
        if answer.error:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENDS_WITHIN):
                    await process.wait()  # until then its log is not complete
            raise await asyncio.to_thread(why_not_loaded, Path(self.log), answer.error)
        return Address("127.0.0.1", answer.port)


async def _how_it_ended(process: Process) -> str:
    """Signal 9 without anybody's doing is how Linux takes memory back."""
    status = await process.wait()
    return "out of memory: it was killed" if status == KILLED else "its process ended before it served"
