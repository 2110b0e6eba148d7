"""How much memory models may take (requirements C1, G6)."""

from pathlib import Path

import psutil
import pytest

from llm_router.contract import Gpu
from llm_router.node.hardware.memory import GIB, Memory, budget, free, read

MACHINE = Memory(total=64 * GIB, available=40 * GIB)
CARD = Gpu("card", memory_total=24 * GIB, memory_used=3 * GIB, backend="cuda")


@pytest.mark.parametrize(("total", "for_models"), [(2, 1.5), (8, 6), (16, 12), (64, 60), (512, 508)])
def test_a_machine_keeps_a_part_for_itself(total: int, for_models: float) -> None:
    """A quarter of its memory, and 4 GiB at most."""
    assert budget("cpu", [], Memory(total * GIB, total * GIB)) == for_models * GIB


def test_models_take_all_of_the_cards() -> None:
    """Cards of the backend count together, since runtimes spread a model over them; what is in use is not free."""
    cards = [CARD, CARD, Gpu("other", memory_total=8 * GIB, backend="vulkan")]
    assert budget("cuda", cards, MACHINE) == 48 * GIB
    assert free("cuda", cards, MACHINE) == 42 * GIB


def test_a_runtime_without_the_gpu() -> None:
    """On a machine with a card, what computes on the processor has the machine's memory."""
    assert budget("cpu", [CARD], MACHINE) == 60 * GIB
    assert free("cpu", [CARD], MACHINE) == 40 * GIB


@pytest.mark.parametrize("own", [0, GIB // 8, GIB])
def test_a_gpu_that_shares_the_machines_memory(own: int) -> None:
    """What it has of its own, if the driver tells, is no limit: it takes the rest from the machine."""
    shared = [Gpu("integrated", memory_total=own, memory_used=own, backend="directml")]
    assert budget("directml", shared, MACHINE) == 60 * GIB
    assert free("directml", shared, MACHINE) == 40 * GIB


def test_apples_memory_is_one() -> None:
    """What other programs hold is not free for the GPU either, and never more is than macOS allows it."""
    chip = [Gpu("Apple M2 Max", memory_total=48 * GIB, backend="metal")]
    assert budget("metal", chip, MACHINE) == 48 * GIB
    assert free("metal", chip, MACHINE) == 40 * GIB
    assert free("metal", chip, Memory(64 * GIB, 60 * GIB)) == 48 * GIB


def test_more_used_than_there_is() -> None:
    """A driver that counts oddly makes nothing free, and no negative number."""
    assert free("cuda", [Gpu("odd", memory_total=8 * GIB, memory_used=9 * GIB, backend="cuda")], MACHINE) == 0


def test_a_container_has_its_limit(tmp_path: Path) -> None:
    """In a container with a memory limit that is what there is; cached files can be dropped, so they are free."""
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("100000000\n")
    (group / "memory.current").write_text("70000000\n")
    (group / "memory.stat").write_text("anon 20000000\ninactive_file 30000000\nactive_file 15000000\nshmem 0\n")
    assert read(tmp_path) == Memory(100_000_000, 75_000_000)


@pytest.mark.parametrize("limit", ["max\n", "9223372036854771712\n", None])
def test_a_container_without_a_limit(tmp_path: Path, limit: str | None) -> None:
    """It has all of the machine, as has what is in no container."""
    if limit:
        (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup/memory.max").write_text(limit)
    assert read(tmp_path).total == psutil.virtual_memory().total
