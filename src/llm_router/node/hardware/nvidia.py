"""Nvidia's GPUs, through the driver's own library, NVML.

Facts that stay are asked once, the others at each reading; what a driver refuses (an older one does not know the
question, a virtual GPU has no thermometer, one that shares the machine's memory has none of its own) is 0 or empty.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import structlog
from msgspec.structs import replace

from llm_router.contract import Gpu
from llm_router.node.hardware.sampler import Device

LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"  # as the driver installs it

log = structlog.get_logger()


def find() -> list[Device]:
    """All of them; none where there is no driver, or it does not work, which is logged."""
    if not _has_driver():
        return []
    nvml = import_module("pynvml")  # here, since it takes 2 MB that only machines with such a GPU shall spend
    try:
        nvml.nvmlInit()
        return [partial(_read, nvml, *_open(nvml, index)) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        log.warning("gpus.nvidia_failed", error=str(error))
        return []


def _has_driver() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def _open(nvml: Any, index: int) -> tuple[Any, Gpu]:  # noqa: ANN401 - pynvml has no types
    """A handle for questions, and what does not change."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    ask = partial(_ask, nvml)
    memory = ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    capability = ask(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    return handle, Gpu(
        name=ask(nvml.nvmlDeviceGetName, handle) or "Nvidia GPU",
        memory_total=memory.total if memory else 0,
        backend="cuda",
        driver=ask(nvml.nvmlSystemGetDriverVersion) or "",
        compute_capability="{}.{}".format(*capability) if capability else "",
    )


def _read(nvml: Any, handle: Any, gpu: Gpu) -> Gpu:  # noqa: ANN401 - pynvml has no types
    memory = _ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    rates = _ask(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    return replace(
        gpu,
        memory_used=memory.used if memory else 0,
        utilization=float(rates.gpu) if rates else 0.0,
        temperature=float(_ask(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU) or 0),
    )


def _ask(nvml: Any, question: Callable[..., Any], *about: object) -> Any:  # noqa: ANN401 - pynvml has no types
    """The answer, or None."""
    try:
        return question(*about)
    except nvml.NVMLError:
        return None
