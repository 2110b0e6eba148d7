"""Nvidia's GPUs through NVML, with a library in the driver's place that is compiled here (requirements A3, C4, D1)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from llm_router.contract import Gpu
from llm_router.node.hardware.nvidia import LIBRARY

GIB = 1 << 30
SOURCE = Path(__file__).parents[2] / "doubles" / "fake_nvml.c"
PROGRAM = """
import sys, msgspec
from llm_router.node.hardware.nvidia import find
found = [read() for read in find()]
sys.stdout.buffer.write(msgspec.json.encode((found, "pynvml" in sys.modules)))
"""

needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="the double of NVML wants Linux and a C compiler (cc)"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the double."""
    place = tmp_path_factory.mktemp("driver")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", place / LIBRARY, SOURCE], check=True)  # noqa: S607 - the machine's
    return place


def look(directory: Path, **settings: str) -> tuple[list[Gpu], bool]:
    """What an agent's process finds whose libraries are in `directory`, and whether it spent memory on pynvml."""
    env = {**os.environ, "LD_LIBRARY_PATH": str(directory), **settings}
    answer = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, check=True).stdout
    line = answer.splitlines()[-1]  # what went wrong is logged before it
    return msgspec.json.decode(line, type=tuple[list[Gpu], bool])


@needs_compiler
def test_all_that_it_tells(driver: Path) -> None:
    """Name, memory, use, temperature, driver, compute capability, of each."""
    gpus, _ = look(driver)
    first = Gpu("NVIDIA Double 4090", 24 * GIB, 1 * GIB, 42.0, 61.0, "cuda", "555.42.02", "8.9")
    assert gpus == [first, msgspec.structs.replace(first, name="NVIDIA Double 3060", compute_capability="8.6")]


@needs_compiler
@pytest.mark.parametrize("refused", ["memory", "temperature", "utilization", "capability", "driver", "name"])
def test_what_it_does_not_tell(driver: Path, refused: str) -> None:
    """That figure is 0 or empty, the GPU is still one."""
    (gpu, _), _ = look(driver, FAKE_NVML_REFUSES=refused)
    silent = {
        "memory": (gpu.memory_total, gpu.memory_used),
        "temperature": (gpu.temperature,),
        "utilization": (gpu.utilization,),
        "capability": (gpu.compute_capability,),
        "driver": (gpu.driver,),
        "name": () if gpu.name == "Nvidia GPU" else (gpu.name,),
    }
    assert not any(silent.pop(refused))
    assert all(all(figures) for question, figures in silent.items() if question != "name")
    assert gpu.backend == "cuda"


@needs_compiler
def test_a_driver_that_is_not_loaded(driver: Path) -> None:
    """The library alone makes no GPU."""
    assert look(driver, FAKE_NVML_INIT="9")[0] == []


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU of Nvidia")
def test_without_a_driver(tmp_path: Path) -> None:
    """None, and no memory is spent on what would ask it."""
    assert look(tmp_path) == ([], False)
