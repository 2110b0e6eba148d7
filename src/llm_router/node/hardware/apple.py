"""The GPU of Apple's chips. It computes in the machine's memory, and macOS lets it wire down a part of that only.

Macs with Intel's processors count as machines without a GPU: neither Ollama nor llama.cpp's releases use theirs.
"""

import psutil

from llm_router.contract import Gpu
from llm_router.node.hardware.command import output
from llm_router.node.hardware.memory import GIB
from llm_router.node.hardware.sampler import Device, unchanging

WITHIN = 5.0  # seconds; it takes milliseconds
MIB = 1 << 20


def find() -> list[Device]:
    """The one there is."""
    words = output("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string", "iogpu.wired_limit_mb", within=WITHIN)
    return [unchanging(gpu) for gpu in parse(words, psutil.virtual_memory().total)]


def parse(words: str, memory: int) -> list[Gpu]:
    """What sysctl says: the chip, and the limit that somebody set, 0 or missing: none. `memory` in bytes.

    The GPU of "Apple M2 Max" has the same name for Metal.
    """
    chip, *limits = words.splitlines() or [""]
    if not chip.startswith("Apple"):
        return []
    limit = int(limits[0]) * MIB if limits and limits[0].isdecimal() else 0
    return [Gpu(chip, memory_total=limit or wired_limit(memory), backend="metal")]


def wired_limit(memory: int) -> int:
    """What macOS lets a GPU have where nobody set it otherwise: Metal's recommendedMaxWorkingSetSize.

    As llama.cpp printed it on many machines: two thirds of 8, 16, 24, 32 GB, three quarters of 36, 64, 128; newer
    releases of macOS allow a little more.
    """
    return memory * 3 // 4 if memory >= 36 * GIB else memory * 2 // 3
