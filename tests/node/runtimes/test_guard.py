"""The process around `ollama serve`: what it writes, and how it ends (requirement G7)."""

import subprocess
import sys
from pathlib import Path

import pytest

from llm_router.node.runtimes import guard

GIN = '[GIN] 2026/01/01 - 00:00:00 | 200 |  96.219µs |  127.0.0.1 | {method}     "{path}"\n'


def run(log: Path, code: str) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-P",
        "-m",
        "llm_router.node.runtimes.guard",
        str(log),
        sys.executable,
        "-c",
        code,
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


@pytest.mark.parametrize(("code", "status"), [("exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_it_ends_as_the_server_does(tmp_path: Path, code: str, status: int) -> None:
    """With its status, or as shells say a signal, and with its last words."""
    with run(tmp_path / "log", f"print('last words', flush=True); {code}") as child:
        assert child.wait(30) == status
    assert (tmp_path / "log").read_text() == "last words\n"


def test_its_end_is_the_servers(tmp_path: Path) -> None:
    """When standard input closes the server gets SIGTERM, and time to put things in order."""
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('in order', flush=True)))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    with run(tmp_path / "log", code) as child:
        while not (tmp_path / "log").exists():
            assert child.poll() is None
        assert child.stdin
        child.stdin.close()
        child.wait(30)
    assert (tmp_path / "log").read_text() == "ready\nin order\n"


def test_no_such_program(tmp_path: Path) -> None:
    """It says so in the log."""
    command = [sys.executable, "-m", "llm_router.node.runtimes.guard", str(tmp_path / "log"), "/no/ollama"]
    assert subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode == guard.NOT_STARTED
    assert "/no/ollama cannot be started: No such file" in (tmp_path / "log").read_text()


def test_our_looks_are_left_out(tmp_path: Path) -> None:
    """Of a log that people read, the agent's own questions would be nearly all."""
    looks = [GIN.format(method="GET", path=path) for path in ("/api/tags", "/api/ps", "/api/version", "/health")]
    rest = [GIN.format(method="POST", path="/api/chat"), 'time=… level=INFO msg="/api/tags"\n']
    guard._copy([line.encode() for line in looks + rest], str(tmp_path / "log"))  # noqa: SLF001 - its duty
    assert (tmp_path / "log").read_text("utf-8") == "".join(rest)


def test_the_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are two files at most, and the newest line is in one of them."""
    monkeypatch.setattr(guard, "LOG_SIZE", 50)
    lines = [f"line {i:04}\n".encode() for i in range(100)]
    guard._copy(lines, str(tmp_path / "log"))  # noqa: SLF001 - its duty
    files = sorted(tmp_path.iterdir())
    assert len(files) <= 2
    assert all(file.stat().st_size < 100 for file in files)
    assert b"".join(file.read_bytes() for file in reversed(files)).endswith(lines[-1])
