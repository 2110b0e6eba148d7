"""GPUs of AMD and Intel from a tree of files as Linux shows them (requirements A3, C4, D1)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from llm_router.contract import Gpu
from llm_router.node.hardware.drm import find

GIB = 1 << 30
RADEON = {
    "vendor": "0x1002",
    "device": "0x744c",
    "mem_info_vram_total": str(24 * GIB),
    "mem_info_vram_used": str(2 * GIB),
    "mem_info_gtt_total": str(32 * GIB),
    "mem_info_gtt_used": str(GIB),
    "gpu_busy_percent": "87",
    "power/runtime_status": "active",
    "hwmon/hwmon4/temp1_input": "64000",
    "hwmon/hwmon4/in0_label": "vddgfx",
}
APU = RADEON | {
    "device": "0x1586",
    "mem_info_vram_total": str(GIB // 2),
    "hwmon/hwmon4/in1_label": "vddnb",
}
ARC = {"vendor": "0x8086", "device": "0x56a0", "hwmon/hwmon2/temp1_input": "41000"}
PCI_IDS = """\
# a comment
1001  Kolter Electronic
\t744c  Something else
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t1586  Strix Halo [Radeon Graphics / Radeon 8060S Graphics]
\t744c  Navi 31 [Radeon RX 7900 XT/7900 XTX]
\t\t1002 0e3b  Radeon RX 7900 XTX
\t9999  Unsold
8086  Intel Corporation
\t56a0  DG2 [Arc A770]
C 00  Unclassified device
"""

Plug = Callable[..., Path]


@pytest.fixture
def plug(tmp_path: Path) -> Plug:
    """Puts a card into the tree: its address, driver and files."""

    def plug(number: int, address: str, driver: str, files: dict[str, str]) -> Path:
        device = tmp_path / "sys/devices" / address
        for name, text in files.items():
            (device / name).parent.mkdir(parents=True, exist_ok=True)
            (device / name).write_text(f"{text}\n")
        module = tmp_path / "sys/module" / driver
        module.mkdir(parents=True, exist_ok=True)
        (device / "driver").symlink_to(module)
        card = tmp_path / f"sys/class/drm/card{number}"
        card.mkdir(parents=True)
        (card / "device").symlink_to(device)
        return device

    return plug


def look(root: Path) -> list[Gpu]:
    return [read() for read in find(root)]


def name_cards(root: Path) -> None:
    (root / "usr/share/misc").mkdir(parents=True)
    (root / "usr/share/misc/pci.ids").write_text(PCI_IDS)


def test_a_card_of_amd(tmp_path: Path, plug: Plug) -> None:
    """All its figures; a connector of it is no card."""
    name_cards(tmp_path)
    plug(1, "0000:03:00.0", "amdgpu", RADEON)
    (tmp_path / "sys/class/drm/card1-DP-1").mkdir()
    assert look(tmp_path) == [
        Gpu("AMD Radeon RX 7900 XT/7900 XTX", 24 * GIB, 2 * GIB, 87.0, 64.0, "vulkan", "amdgpu"),
    ]


def test_rocm(tmp_path: Path, plug: Plug) -> None:
    """It computes by ROCm where the kernel's part of that is there; AMD's own driver has a version."""
    plug(0, "0000:03:00.0", "amdgpu", RADEON | {"product_name": "AMD Instinct MI210"})
    (tmp_path / "sys/module/amdgpu/version").write_text("6.7.8\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kfd").touch()
    (gpu,) = look(tmp_path)
    assert (gpu.name, gpu.backend, gpu.driver) == ("AMD Instinct MI210", "rocm", "amdgpu 6.7.8")


def test_figures_are_read_anew(tmp_path: Path, plug: Plug) -> None:
    """What changes does; what the driver cannot tell at the moment is 0."""
    device = plug(0, "0000:03:00.0", "amdgpu", RADEON)
    (read,) = find(tmp_path)
    (device / "mem_info_vram_used").write_text(f"{20 * GIB}\n")
    (device / "gpu_busy_percent").unlink()
    assert (read().memory_used, read().utilization) == (20 * GIB, 0.0)


def test_a_card_may_sleep(tmp_path: Path, plug: Plug) -> None:
    """One that the kernel has put to sleep is not read, since that would wake it."""
    plug(0, "0000:03:00.0", "amdgpu", RADEON | {"power/runtime_status": "suspended"})
    (gpu,) = look(tmp_path)
    assert (gpu.memory_total, gpu.memory_used, gpu.temperature) == (24 * GIB, 0, 0.0)


def test_graphics_beside_the_processor(tmp_path: Path, plug: Plug) -> None:
    """An APU has what the kernel lets it have of the machine's memory."""
    name_cards(tmp_path)
    plug(0, "0000:c4:00.0", "amdgpu", APU)
    (gpu,) = look(tmp_path)
    assert gpu.name == "AMD Radeon Graphics / Radeon 8060S Graphics"
    assert (gpu.memory_total, gpu.memory_used) == (32 * GIB + GIB // 2, 3 * GIB)


def test_an_apu_stands_back(tmp_path: Path, plug: Plug) -> None:
    """Beside a card it is not used, whatever the order."""
    plug(0, "0000:c4:00.0", "amdgpu", APU)
    plug(1, "0000:03:00.0", "amdgpu", RADEON)
    assert [gpu.memory_total for gpu in look(tmp_path)] == [24 * GIB]


def test_the_card_with_most_memory_decides(tmp_path: Path, plug: Plug) -> None:
    """It comes first (C4)."""
    plug(0, "0000:01:00.0", "i915", ARC)
    plug(1, "0000:03:00.0", "amdgpu", RADEON | {"mem_info_vram_total": str(8 * GIB)})
    plug(2, "0000:05:00.0", "amdgpu", RADEON)
    assert [gpu.memory_total for gpu in look(tmp_path)] == [24 * GIB, 8 * GIB, 0]


def test_a_card_of_intel(tmp_path: Path, plug: Plug) -> None:
    """A name and a temperature; no list of names, then its number."""
    plug(0, "0000:01:00.0", "xe", ARC)
    assert look(tmp_path) == [Gpu("Intel GPU 56a0", temperature=41.0, backend="vulkan", driver="xe")]
    name_cards(tmp_path)
    assert look(tmp_path)[0].name == "Intel Arc A770"


@pytest.mark.parametrize(
    ("address", "files"),
    [
        ("0000:00:02.0", {"vendor": "0x8086", "device": "0x9a49"}),  # integrated
        ("0000:01:00.0", {"vendor": "0x1002", "device": "0x6779"}),  # too old for the driver that computes
        ("0000:01:00.0", {"vendor": "0x1a03", "device": "0x2000"}),  # a server's console
        ("0000:01:00.0", {"vendor": "0x10de", "device": "0x2684"}),  # Nvidia's: through its driver, or not at all
        ("0000:01:00.0", {}),
    ],
)
def test_what_models_cannot_run_on(tmp_path: Path, plug: Plug, address: str, files: dict[str, str]) -> None:
    """It is not reported."""
    plug(0, address, "some", {"uevent": ""} | files)
    assert look(tmp_path) == []


def test_no_graphics_at_all(tmp_path: Path) -> None:
    """Nothing there, nothing found."""
    assert look(tmp_path) == []


def test_a_name_that_is_sold_under_no_other(tmp_path: Path, plug: Plug) -> None:
    """The chip's own name does, and a list that does not have it gives the number."""
    name_cards(tmp_path)
    plug(0, "0000:01:00.0", "amdgpu", RADEON | {"device": "0x9999"})
    plug(1, "0000:02:00.0", "amdgpu", RADEON | {"device": "0x7777"})
    assert [gpu.name for gpu in look(tmp_path)] == ["AMD Unsold", "AMD GPU 7777"]
