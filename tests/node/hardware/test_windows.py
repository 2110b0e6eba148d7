"""GPUs of a Windows machine, from what PowerShell prints (requirements A3, C4)."""

from llm_router.contract import Gpu
from llm_router.node.hardware.windows import parse

GIB = 1 << 30

# As ConvertTo-Json prints it on a machine with a card of AMD, one of Nvidia, and Intel's integrated graphics; the
# registry still has a card that is gone, and an entry that says nothing.
PRINTED = r"""
{"adapters":[
 {"Name":"Intel(R) UHD Graphics 770","DriverVersion":"31.0.101.4953","PNPDeviceID":"PCI\\VEN_8086&DEV_A780&SUBSYS_1&REV_04\\3&1&10","Status":"OK"},
 {"Name":"AMD Radeon RX 7900 XTX","DriverVersion":"32.0.11037.4004","PNPDeviceID":"PCI\\VEN_1002&DEV_744C&SUBSYS_2&REV_C8\\6&2&19","Status":"OK"},
 {"Name":"AMD Radeon RX 580","DriverVersion":"31.0.21921","PNPDeviceID":"PCI\\VEN_1002&DEV_67DF&SUBSYS_3&REV_E7\\4&3&8","Status":"Error"},
 {"Name":"NVIDIA GeForce RTX 4090","DriverVersion":"32.0.15.5599","PNPDeviceID":"PCI\\VEN_10DE&DEV_2684&SUBSYS_4&REV_A1\\4&4&8","Status":"OK"},
 {"Name":"Microsoft Remote Display Adapter","DriverVersion":"10.0.19041.1","PNPDeviceID":"SWD\\REMOTEDISPLAYENUM\\R","Status":"OK"},
 {"Name":null,"DriverVersion":null,"PNPDeviceID":null,"Status":null}],
"registry":[
 {"DriverDesc":"Intel(R) UHD Graphics 770","Memory":134217728},
 {"DriverDesc":"AMD Radeon RX 7900 XTX","Memory":25753026560},
 {"DriverDesc":"AMD Radeon RX 6800","Memory":17163091968},
 {"DriverDesc":null,"Memory":null}]}
"""  # noqa: E501 - lines as they are printed


def test_those_that_work() -> None:
    """Present and working, not Nvidia's, which NVML tells of; most memory first, also above WMI's 4 GB."""
    assert parse(PRINTED) == [
        Gpu("AMD Radeon RX 7900 XTX", memory_total=25753026560, backend="directml", driver="32.0.11037.4004"),
        Gpu("Intel(R) UHD Graphics 770", memory_total=GIB // 8, backend="directml", driver="31.0.101.4953"),
    ]


def test_nothing_that_can_be_used() -> None:
    """Nothing printed, something else, no GPU: none."""
    assert parse("") == parse("Get-CimInstance : Access denied") == parse('{"adapters":[],"registry":[]}') == []
