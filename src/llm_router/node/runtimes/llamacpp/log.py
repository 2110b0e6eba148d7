"""Why llama.cpp did not load a model: it says so in its log only.

A line is `0.00.006.343 E gguf_init_from_reader: failed to read header` in current builds, its text alone in older ones.
What went wrong first is the reason, and what follows are its consequences.
"""

import re
from pathlib import Path

from llm_router.errors import UpstreamFailed
from llm_router.node.runtimes.process import OutOfMemory

LAST = 64_000  # bytes at the end of a log that are looked at; a load that fails prints some hundred lines
LONGEST = 300  # characters of a reason

_ERROR = re.compile(r"[\d.]+ E +(?:\w+ +)?(.+)")  # after the time: a letter, the part of llama.cpp, the text
_SOUNDS_BAD = re.compile(r"((?![\d.]+ [A-Z] ).*\b(?:error|failed|unable|unknown|cannot|invalid)\b.*)", re.IGNORECASE)
_MEMORY = re.compile(
    r"out of memory|(?:failed|unable) to (?:allocate|reserve)|cannot allocate|bad_alloc", re.IGNORECASE
)


def why_not_loaded(log: Path, otherwise: str) -> UpstreamFailed:
    """The reason, from what was printed last into `log`; `otherwise` where that says nothing. It reads the disk.

    OutOfMemory where memory ran out.
    """
    lines = _last_lines(log)
    said = _first(_ERROR, lines) or _first(_SOUNDS_BAD, lines) or otherwise
    kind = OutOfMemory if any(map(_MEMORY.search, [*lines, otherwise])) else UpstreamFailed
    return kind(said[:LONGEST])


def _first(pattern: re.Pattern[str], lines: list[str]) -> str:
    return next((found[1].strip() for line in lines if (found := pattern.match(line))), "")


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
