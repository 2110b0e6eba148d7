"""The process between the agent and a server of its own: `python -m llm_router.node.runtimes.guard LOG COMMAND…`.

It runs the command, writes what that prints to the file LOG, and ends when the command does, with its status. When its
standard input closes, however the agent ended, it ends the command and whatever that has started: servers do not look
at their standard input, and when `ollama serve` is killed, the processes that it runs models in live on.

It is the leader of a session of its own, and everything it starts stays in its process group.

A server writes a line for every request, and the agent looks at it every few seconds: lines about such looks are left
out, and LOG is put aside as LOG.1 when it has grown to LOG_SIZE.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO

GRACE = 3.0  # seconds between SIGTERM and SIGKILL; less than `process.KILL_AFTER`, which would cut this process short
LOG_SIZE = 10_000_000  # bytes; some ten thousand requests
DRAIN_WITHIN = 0.2  # seconds for its last words: processes that it left behind may hold its output open
NOT_STARTED = 127  # as shells say that there is no such command
LOOKS = (
    b'"/api/tags"',
    b'"/api/ps"',
    b'"/api/version"',
    b'"/health"',
)  # attached.py and supervisor.py, in gin's format


def main() -> None:
    """Run the command until it ends, or until standard input closes."""
    log, *command = sys.argv[1:]
    try:
        server = subprocess.Popen(  # noqa: S603 - the agent's own command
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        _copy([f"Error: {command[0]} cannot be started: {error.strerror}\n".encode()], log)
        sys.exit(NOT_STARTED)
    assert server.stdout  # noqa: S101 - it is a pipe
    copying = threading.Thread(target=_copy, args=(server.stdout, log), daemon=True)
    copying.start()
    leaving = threading.Event()
    threading.Thread(target=_wait, args=(server, copying, leaving), daemon=True).start()
    sys.stdin.buffer.read()
    leaving.set()
    server.terminate()
    time.sleep(GRACE)
    _end_all()


def _wait(server: "subprocess.Popen[bytes]", copying: threading.Thread, leaving: threading.Event) -> None:
    """End with the server's status; a signal is said as shells say it. What it left behind, the agent ends."""
    status = server.wait()
    copying.join(DRAIN_WITHIN)
    if leaving.is_set():
        _end_all()
    os._exit(status if status >= 0 else 128 - status)


def _end_all() -> None:
    """This process too."""
    if sys.platform == "win32":
        tree = ["taskkill", "/F", "/T", "/PID", str(os.getpid())]
        subprocess.run(tree, check=False, capture_output=True)  # noqa: S603 - part of Windows
    else:
        os.killpg(0, signal.SIGKILL)


def _copy(lines: "IO[bytes] | list[bytes]", log: str) -> None:
    """Write until the end; where the disk is full nothing is written, but Ollama shall not wait for that."""
    for line in lines:
        if not (line.startswith(b"[GIN]") and line.rstrip().endswith(LOOKS)):
            with suppress(OSError):
                _write(line, log)


def _write(line: bytes, log: str) -> None:
    with open(log, "ab") as file:  # noqa: PTH123 - pathlib would be imported for this alone
        full = file.tell() > LOG_SIZE
        file.write(line)
    if full:
        os.replace(log, f"{log}.1")  # noqa: PTH105 - as above


if __name__ == "__main__":
    main()
