"""Which architectures llama.cpp knows: it is asked, since each version knows more of them.

It is given a file that has an architecture and nothing else. "unknown model architecture" is a no; whatever else it
says is a yes, since it then went on and missed the rest. (There is no call that lists them, and the names cannot be
found in its library either: the linker keeps "bert" only as the end of "modern-bert".)

`python -m llm_router.node.models.asking FILE…` has the wheel's llama.cpp load these files; that takes 0.2 s and 30 MB,
however many there are. A `llama-server` takes one file at a time.
"""

import contextlib
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

# -P: whatever Python files lie in the directory the agent was started in are not imported.
WHEEL = (sys.executable, "-P", "-m", "llm_router.node.models.asking")
ANSWER_WITHIN = 60.0  # seconds; a GPU's driver may take some to start
EVERY_ONE_KNOWS = frozenset({"llama"})  # it has its name from it


class LlamaCpp:
    """One llama.cpp, which is asked once about each architecture: the wheel's, or the `llama-server` at this path."""

    def __init__(self, server: str = "") -> None:
        self._server = server
        self._asked = set(EVERY_ONE_KNOWS)
        self._unknown: set[str] = set()

    def unknown(self, architectures: Iterable[str]) -> frozenset[str]:
        """Those that it does not know. It waits for a process: call it from a thread.

        Where it cannot be asked it is taken to know them all: then a load that fails says what is wrong.
        """
        wanted = frozenset(architectures)
        if new := sorted(wanted - self._asked):
            self._asked.update(new)
            self._unknown.update(refused(self._ask(new), new))
        return wanted & self._unknown

    def _ask(self, architectures: list[str]) -> str:
        with tempfile.TemporaryDirectory(prefix="llm-router-") as directory:
            files = [Path(directory) / f"{number}.gguf" for number in range(len(architectures))]
            for file, architecture in zip(files, architectures, strict=True):
                file.write_bytes(bare(architecture))
            return "".join(_output(command) for command in self._commands(files))

    def _commands(self, files: list[Path]) -> Iterator[list[str]]:
        if not self._server:
            yield [*WHEEL, *map(str, files)]
            return
        for file in files:
            yield [self._server, "--host", "127.0.0.1", "--port", "0", "--model", str(file)]


def bare(architecture: str) -> bytes:
    """A GGUF file with this architecture, no tensors and no other key (see `gguf.py` for the layout)."""
    return (
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + _string("general.architecture") + b"\x08\0\0\0" + _string(architecture)
    )


def refused(output: str, architectures: Iterable[str]) -> set[str]:
    """Those that llama.cpp says, in what it prints, that it does not know."""
    return {name for name in architectures if f"unknown model architecture: '{name}'" in output}


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own program, or the one that the operator chose
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_WITHIN, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).decode(errors="replace")


def main() -> None:
    """Have the wheel's llama.cpp load these files. What it says of them goes to standard error."""
    import xllamacpp  # noqa: PLC0415 - only the process that loads needs it

    for path in sys.argv[1:]:
        params = xllamacpp.CommonParams()
        params.model.path = path
        params.port = 0
        params.ui = False
        params.fit_params = False  # it would load the file twice
        with contextlib.suppress(RuntimeError):  # a file without a model in it is always refused
            xllamacpp.Server(params)


if __name__ == "__main__":
    main()
