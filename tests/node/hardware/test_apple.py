"""The GPU of a Mac, from what its `sysctl` says (requirements A3, C4)."""

import pytest

from llm_router.contract import Gpu
from llm_router.node.hardware.apple import parse

GIB = 1 << 30


@pytest.mark.parametrize(("memory", "for_gpu"), [(24, 16), (36, 27), (64, 48), (128, 96)])
def test_a_part_of_the_memory_is_the_gpus(memory: int, for_gpu: int) -> None:
    """Two thirds of a small Mac's, three quarters of a large one's, as macOS allows by default."""
    assert parse("Apple M2 Max\n0\n", memory * GIB) == [
        Gpu("Apple M2 Max", memory_total=for_gpu * GIB, backend="metal"),
    ]


def test_a_limit_that_somebody_set() -> None:
    """`sysctl iogpu.wired_limit_mb=57344` counts."""
    (gpu,) = parse("Apple M1 Ultra\n57344\n", 64 * GIB)
    assert gpu.memory_total == 56 * GIB


def test_a_macos_without_that_setting() -> None:
    """An older one says nothing of it, and has the default."""
    (gpu,) = parse("Apple M1\n", 24 * GIB)
    assert gpu.memory_total == 16 * GIB


@pytest.mark.parametrize("words", ["Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz\n", ""])
def test_other_macs(words: str) -> None:
    """One with an Intel processor computes on that, as does one whose tool says nothing."""
    assert parse(words, 16 * GIB) == []
