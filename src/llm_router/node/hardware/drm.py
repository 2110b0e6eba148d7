"""GPUs of AMD and Intel on Linux, from what the kernel shows of them below /sys.

AMD's files: https://docs.kernel.org/gpu/amdgpu/driver-misc.html and …/thermal.html. Intel's driver tells little: a
temperature. Of Intel only cards count: its integrated graphics have the processor's memory, and are no faster than it.
"""

import re
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from llm_router.contract import Gpu
from llm_router.node.hardware import pci
from llm_router.node.hardware.sampler import Device

AMD, INTEL = "0x1002", "0x8086"


def find(root: Path = Path("/")) -> list[Device]:
    """All that models can run on, most memory first. `root`: where /sys, /dev and /usr are.

    Integrated ones only where there is nothing else, as llama.cpp does it.
    """
    cards = [card / "device" for card in root.glob("sys/class/drm/card*") if re.fullmatch(r"card\d+", card.name)]
    usable = [card for card in cards if _is_usable(card)]
    chosen = [card for card in usable if not _is_integrated(card)] or usable
    opened = sorted(((card, _open(root, card)) for card in chosen), key=lambda it: (-it[1].memory_total, it[0]))
    return [partial(_read, card, gpu) for card, gpu in opened]


def _is_usable(card: Path) -> bool:
    vendor = _text(card / "vendor")
    if vendor == AMD:
        return _number(card / "mem_info_vram_total") > 0  # the driver for cards before 2012 has no such file
    return vendor == INTEL and not _address(card).startswith("0000:00:")  # on the processor's own bus: integrated


def _is_integrated(card: Path) -> bool:
    """The kernel shows the voltage of the northbridge for APUs only."""
    return any(_text(label) == "vddnb" for label in card.glob("hwmon/hwmon*/in*_label"))


def _open(root: Path, card: Path) -> Gpu:
    """What does not change."""
    vendor, module = _text(card / "vendor"), (card / "driver").resolve().name
    has_rocm = vendor == AMD and (root / "dev/kfd").exists()  # what ROCm computes through, also in a container
    return Gpu(
        name=_text(card / "product_name") or pci.name(root, vendor, _text(card / "device")),
        memory_total=_memory(card, "total"),
        backend="rocm" if has_rocm else "vulkan",
        driver=f"{module} {_text(root / 'sys/module' / module / 'version')}".strip(),
    )


def _read(card: Path, gpu: Gpu) -> Gpu:
    """What does change. A card that sleeps is left asleep: it would wake up to answer."""
    if _text(card / "power/runtime_status") == "suspended":
        return gpu
    temperatures = [_number(file) for file in card.glob("hwmon/hwmon*/temp1_input")]
    return replace(
        gpu,
        memory_used=_memory(card, "used"),
        utilization=float(_number(card / "gpu_busy_percent")),
        temperature=max(temperatures, default=0) / 1000,
    )


def _memory(card: Path, what: str) -> int:
    """Bytes; of an APU also those that it has of the machine's memory (GTT), as its own are few."""
    own = _number(card / f"mem_info_vram_{what}")
    return own + _number(card / f"mem_info_gtt_{what}") if _is_integrated(card) else own


def _address(card: Path) -> str:
    """On the PCI bus, as in "0000:03:00.0"."""
    return card.resolve().name


def _number(file: Path) -> int:
    text = _text(file)
    return int(text) if text.isdecimal() else 0


def _text(file: Path) -> str:
    """What the file says; nothing where the driver has no such file, or cannot answer now."""
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
