"""The memory of this machine, and how much of it models may take. All figures in bytes."""

from pathlib import Path

import msgspec
import psutil

from llm_router.contract import Backend, Gpu

GIB = 1 << 30

# What models leave to everything else, where they live in the machine's own memory: a quarter, so that a small machine
# keeps working, and at most what a desktop with a browser takes.
LARGEST_RESERVE = 4 * GIB
# A GPU with less than this of its own takes what it needs from the machine's memory: firmware gives integrated graphics
# 128 MiB to 1 GiB, and no card with less than 2 GiB can hold a model.
LEAST_OWN = 2 * GIB


class Memory(msgspec.Struct, frozen=True):
    """The machine's memory, or its container's: all of it, and what a program could take now without swapping."""

    total: int
    available: int


def read(root: Path = Path("/")) -> Memory:
    """The memory that this process can have. The kernel's figures are of the machine, also in a container."""
    now = psutil.virtual_memory()
    limit = _number(root / "sys/fs/cgroup/memory.max")
    if not 0 < limit < now.total:
        return Memory(now.total, now.available)
    return Memory(limit, max(0, min(now.available, limit - _held(root / "sys/fs/cgroup"))))


def budget(backend: Backend, gpus: list[Gpu], memory: Memory) -> int:
    """What models may take that run on `backend`: their GPUs' memory, all of it, or the machine's less a reserve."""
    own = sum(gpu.memory_total for gpu in gpus if gpu.backend == backend)
    return own if own >= LEAST_OWN else memory.total - min(LARGEST_RESERVE, memory.total // 4)


def free(backend: Backend, gpus: list[Gpu], memory: Memory) -> int:
    """What is left of that budget. On Apple's chips it is the machine's memory that the GPU takes."""
    mine = [gpu for gpu in gpus if gpu.backend == backend]
    room = budget(backend, gpus, memory)
    if backend == "metal" or sum(gpu.memory_total for gpu in mine) < LEAST_OWN:
        return min(room, memory.available)
    return max(0, room - sum(gpu.memory_used for gpu in mine))


def _held(group: Path) -> int:
    """What a container holds and cannot be made to drop, as cgroup v2 counts (the kernel's cgroup-v2.rst)."""
    lines = (line.split() for line in _text(group / "memory.stat").splitlines())
    droppable = sum(int(size) for name, size in lines if name in ("inactive_file", "active_file"))
    return _number(group / "memory.current") - droppable


def _number(file: Path) -> int:
    """0 where there is none: no container, no limit ("max"), another platform."""
    text = _text(file).strip()
    return int(text) if text.isdecimal() else 0


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
