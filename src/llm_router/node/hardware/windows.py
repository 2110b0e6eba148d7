r"""GPUs of AMD and Intel on Windows: those that work, from WMI, with their memory from the registry.

WMI alone does not do, since its AdapterRAM ends at 4 GB; the registry alone neither, since it remembers GPUs that are
there no more. Memory is HardwareInformation.qwMemorySize below the class of display adapters, a number or its bytes:
https://learn.microsoft.com/windows-hardware/drivers/display/registering-hardware-information
"""

import os

import msgspec

from llm_router.contract import UNREADABLE, Gpu
from llm_router.node.hardware.command import output
from llm_router.node.hardware.sampler import Device, unchanging

WITHIN = 30.0  # seconds; PowerShell takes one or two to start, and ten on a machine that is just booting
POWERSHELL = r"System32\WindowsPowerShell\v1.0\powershell.exe"
CLASS = r"HKLM:\SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}\0*"  # display adapters
SCRIPT = f"""
[Console]::OutputEncoding = [Text.Encoding]::UTF8
@{{
  adapters = @(Get-CimInstance Win32_VideoController | Select-Object Name, DriverVersion, PNPDeviceID, Status)
  registry = @(Get-ItemProperty '{CLASS}' -ErrorAction SilentlyContinue | Select-Object DriverDesc, @{{ n='Memory'; e={{
    $size = $_.'HardwareInformation.qwMemorySize'
    if ($size -is [byte[]]) {{ [BitConverter]::ToUInt64($size, 0) }} else {{ $size }}
  }} }})
}} | ConvertTo-Json -Depth 4 -Compress
"""
VENDORS = ("PCI\\VEN_1002&", "PCI\\VEN_8086&")  # AMD, Intel; Nvidia's are NVML's to tell of


class _Adapter(msgspec.Struct, rename="pascal"):
    name: str | None = None
    driver_version: str | None = None
    pnp_device_id: str | None = msgspec.field(default=None, name="PNPDeviceID")
    status: str | None = None


class _Entry(msgspec.Struct, rename="pascal"):
    driver_desc: str | None = None
    memory: int | None = None


class _Found(msgspec.Struct):
    adapters: list[_Adapter]
    registry: list[_Entry]


def find() -> list[Device]:
    """All that models can run on, most memory first. Their use is not known."""
    windows = os.environ.get("SYSTEMROOT", r"C:\Windows")  # in full, since the current directory is searched first
    words = output(rf"{windows}\{POWERSHELL}", "-NoProfile", "-NonInteractive", "-Command", SCRIPT, within=WITHIN)
    return [unchanging(gpu) for gpu in parse(words)]


def parse(words: str) -> list[Gpu]:
    """What SCRIPT prints; nothing where that is not what it should be."""
    try:
        found = msgspec.json.decode(words.encode(), type=_Found)
    except UNREADABLE:
        return []
    sizes = {entry.driver_desc: entry.memory for entry in found.registry if entry.memory}
    gpus = [
        Gpu(adapter.name, sizes.get(adapter.name, 0), backend="directml", driver=adapter.driver_version or "")
        for adapter in found.adapters
        if adapter.name and adapter.status == "OK" and (adapter.pnp_device_id or "").startswith(VENDORS)
    ]
    return sorted(gpus, key=lambda gpu: -gpu.memory_total)
