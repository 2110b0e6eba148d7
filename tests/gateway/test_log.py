"""What a process logs, as set up for a command. Each test has a process of its own: the setup is the process's."""

import subprocess
import sys
from typing import Any

import msgspec
import pytest

PROGRAM = """
import logging, sys, structlog
from llm_router.gateway.log import configure
configure(*sys.argv[1:])
log = structlog.get_logger()
log.debug("too.fine")
log.warning("node.offline", node="n1", reason="silence")
logging.getLogger("aiohttp").warning("careful with %s", "this")
logging.getLogger("aiohttp").info("not of interest")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("task.failed")
"""

WRITES = """
import io, sys, structlog
from llm_router.gateway.log import configure
class File(io.RawIOBase):
    def writable(self):
        return True
    def write(self, data):
        assert bytes(data).endswith(b"}\\n")
        sys.stdout.buffer.write(data)
        return len(data)
sys.stderr = io.TextIOWrapper(io.BufferedWriter(File()), line_buffering=True)  # as Python makes it
configure("info", "json")
structlog.get_logger().info("short")
structlog.get_logger().info("long" * 9999)
"""


def run(level: str, form: str) -> list[str]:
    """The lines on standard error; nothing may go to standard output."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, level, form], capture_output=True, text=True, check=True)
    assert not done.stdout
    return done.stderr.splitlines()


def test_json() -> None:
    """One object per line, with event, level, time and fields; tracebacks are a field."""
    entries: list[dict[str, Any]] = [msgspec.json.decode(line) for line in run("info", "json")]
    assert [(e["event"], e["level"]) for e in entries] == [
        ("node.offline", "warning"),
        ("careful with this", "warning"),
        ("task.failed", "error"),
    ]
    assert entries[0]["node"] == "n1"
    assert all(e["timestamp"].endswith("Z") for e in entries)
    assert "ZeroDivisionError" in entries[2]["exception"]


def test_console() -> None:
    """Lines for people, without colours where nobody sees them."""
    lines = run("info", "console")
    assert "node.offline" in lines[0]
    assert "reason=silence" in lines[0]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(("level", "first"), [("debug", "too.fine"), ("error", "task.failed")])
def test_level(level: str, first: str) -> None:
    """Only what is severe enough is printed."""
    own = [msgspec.json.decode(line)["event"] for line in run(level, "json") if "careful" not in line]
    assert own[0] == first


def test_a_line_is_written_at_once() -> None:
    """With its end, however long it is: lines of processes that share a file do not mix."""
    done = subprocess.run([sys.executable, "-c", WRITES], capture_output=True, text=True, check=True)
    assert [msgspec.json.decode(write)["event"] for write in done.stdout.splitlines()] == ["short", "long" * 9999]
