"""Names of devices on the PCI bus, from the list that Linux distributions install (https://pci-ids.ucw.cz)."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

PLACES = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")  # Debian's and Fedora's
VENDORS = {"0x1002": "AMD", "0x8086": "Intel"}  # shorter than in the list


def name(root: Path, vendor: str, device: str) -> str:
    """As in "AMD Radeon RX 7900 XTX"; with its number where no list names it. Ids as /sys has them: "0x744c"."""
    for place in PLACES:
        try:
            with (root / place).open(encoding="utf-8", errors="replace") as lines:
                model = _look_up(lines, vendor[2:], device[2:])
        except OSError:
            continue
        if model:
            return f"{VENDORS[vendor]} {model}"
    return f"{VENDORS[vendor]} GPU {device[2:]}"


def _look_up(lines: Iterable[str], vendor: str, device: str) -> str:
    """The list has chip and, in brackets, the name that it is sold under: "Navi 31 [Radeon RX 7900 XTX]"."""
    for line in _of_vendor(lines, vendor):
        if line.startswith(f"\t{device} "):
            text = line.split(maxsplit=1)[1].strip()
            sold_as = re.search(r"\[(.+)\]$", text)
            return sold_as[1] if sold_as else text
    return ""


def _of_vendor(lines: Iterable[str], vendor: str) -> Iterator[str]:
    """The lines below a vendor's: they begin with a tab."""
    inside = False
    for line in lines:
        if not line.startswith(("\t", "#", "\n")):
            if inside:
                return
            inside = line.startswith(f"{vendor} ")
        elif inside:
            yield line
