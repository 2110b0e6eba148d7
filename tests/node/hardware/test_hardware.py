"""This machine, as the agent asks for it (requirements A3, C4, D1)."""

import platform
import re

from llm_router.contract import Gpu
from llm_router.node.hardware import Hardware, machine_name
from llm_router.node.hardware.gpus import backend_of, find


def test_load() -> None:
    """Percentages and bytes as the heartbeat carries them (D1)."""
    load = Hardware().load()
    assert 0 <= load.cpu <= 100
    assert 0 < load.memory < 100
    assert load.memory_total > 1_000_000


def test_os() -> None:
    """A short text for people."""
    assert re.fullmatch(rf"{platform.system()} \S+ \S+", Hardware().os())


def test_machine_name() -> None:
    """Never empty, and without a domain."""
    assert machine_name()
    assert "." not in machine_name()


async def test_this_machine() -> None:
    """Whatever machine runs this test, its GPUs, its backend and its memory fit together."""
    hardware = Hardware()
    assert (hardware.gpus(), hardware.backend()) == ([], "cpu")
    await hardware.start()
    hardware.stop()
    assert hardware.backend() == (hardware.gpus()[0].backend if hardware.gpus() else "cpu")
    assert hardware.budget() > 0
    assert 0 <= hardware.free() <= hardware.budget()
    assert 0 < hardware.budget("cpu") < hardware.load().memory_total


def test_the_first_gpu_decides() -> None:
    """A card of Nvidia beside one of AMD makes a CUDA node; no card, a CPU node (C4)."""
    assert backend_of([Gpu("a", backend="cuda"), Gpu("b", backend="vulkan")]) == "cuda"
    assert backend_of([]) == "cpu"


def test_a_platform_without_the_others_tools() -> None:
    """Looking for a Mac's or a Windows machine's GPUs does not fail where their tools are missing."""
    if platform.system() == "Linux":
        assert find("darwin") == []
        assert isinstance(find("win32"), list)
