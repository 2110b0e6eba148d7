"""Facts about this machine (requirement D1 begins here)."""

import platform
import re

from llm_router.node.hardware import Hardware, machine_name


def test_load() -> None:
    """Percentages and bytes as the heartbeat carries them."""
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
