"""The machine this runs on."""

import platform
import time

import psutil

from llm_router.contract import Backend, Gpu
from llm_router.node.hardware import memory
from llm_router.node.hardware.gpus import backend_of, find
from llm_router.node.hardware.load import Load, Mean
from llm_router.node.hardware.sampler import Sampler


class Hardware:
    """The machine this runs on. No call waits, except `start`: figures are the kernel's, or those read last.

    Before `start`, and where it found no GPU, this is a machine without one.
    """

    def __init__(self) -> None:
        psutil.cpu_percent()  # the next call answers for the time since this one; this one answers 0
        self._cpu = Mean(time.monotonic())
        self._gpus = Sampler(find)

    async def start(self) -> None:
        """Look for GPUs, and read them until `stop`. Returns when they are known, or are too slow to be waited for."""
        await self._gpus.start()

    def stop(self) -> None:
        """Read the GPUs no more."""
        self._gpus.stop()

    def load(self) -> Load:
        """Processor use as a mean over the last WINDOW seconds, so that a spike is not taken for a busy machine.

        The time before the agent started counts as idle. Memory use is that of now.
        """
        now = psutil.virtual_memory()
        return Load(self._cpu.add(psutil.cpu_percent(), time.monotonic()), now.percent, now.total)

    def gpus(self) -> list[Gpu]:
        """Those that models can run on, the one that decides first; figures are one heartbeat old at most."""
        return self._gpus.latest

    def backend(self) -> Backend:
        """What this machine computes with: its first GPU decides (requirement C4)."""
        return backend_of(self.gpus())

    def budget(self, backend: Backend | None = None) -> int:
        """Bytes that all models together may take here, in the memory that `backend` computes in.

        Ask with "cpu" for a runtime that does not use the GPU; the default is this machine's backend.
        """
        return memory.budget(backend or self.backend(), self.gpus(), memory.read())

    def free(self, backend: Backend | None = None) -> int:
        """Bytes of the budget that nothing has taken; of a GPU as it was read last.

        Weights that are mapped from a file do not count as taken, since the kernel can drop their pages: who loads
        models keeps its own account of those.
        """
        return memory.free(backend or self.backend(), self.gpus(), memory.read())

    def os(self) -> str:
        """For people, as in "Linux 6.1 x86_64"."""
        release = ".".join(platform.release().split("-")[0].split(".")[:2])
        return f"{platform.system()} {release} {platform.machine()}"


def machine_name() -> str:
    """The name the machine gives itself, without its domain."""
    return platform.node().split(".")[0] or "node"
