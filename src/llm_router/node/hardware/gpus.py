"""Which GPUs this machine has that models can run on."""

import sys

from llm_router.contract import Backend, Gpu
from llm_router.node.hardware import apple, drm, nvidia, windows
from llm_router.node.hardware.sampler import Device


def find(platform: str = sys.platform) -> list[Device]:
    """Look for them, once: the driver's libraries and the system's tools are asked. Takes up to some seconds.

    Nvidia's come first, since every runtime can use them; of others those with most memory.
    """
    if platform == "darwin":
        return apple.find()
    others = windows.find() if platform == "win32" else drm.find()
    return nvidia.find() + others


def backend_of(gpus: list[Gpu]) -> Backend:
    """What a machine with these computes with: the first decides (requirement C4)."""
    return gpus[0].backend if gpus else "cpu"
