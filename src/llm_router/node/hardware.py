"""Facts about this machine, for the registration and the heartbeat."""

import platform

import msgspec
import psutil

from llm_router.contract import Gpu


class Load(msgspec.Struct, frozen=True):
    """How busy the machine is: `cpu` and `memory` in percent, `memory_total` in bytes."""

    cpu: float
    memory: float
    memory_total: int


class Hardware:
    """The machine this runs on. Nothing here waits: the figures are the kernel's counters, read at once."""

    def __init__(self) -> None:
        psutil.cpu_percent()  # the next call answers for the time since this one; this one answers 0

    def load(self) -> Load:
        """Processor use since the last call, memory use now."""
        memory = psutil.virtual_memory()
        return Load(psutil.cpu_percent(), memory.percent, memory.total)

    def gpus(self) -> list[Gpu]:
        """None yet."""
        return []

    def os(self) -> str:
        """For people, as in "Linux 6.1 x86_64"."""
        release = ".".join(platform.release().split("-")[0].split(".")[:2])
        return f"{platform.system()} {release} {platform.machine()}"


def machine_name() -> str:
    """The name the machine gives itself, without its domain."""
    return platform.node().split(".")[0] or "node"
