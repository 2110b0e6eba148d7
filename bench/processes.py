"""Programs of a run. Each one ends when its standard input, a pipe, is closed, whatever happens to the bench."""

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

START = 60.0  # seconds of the wall; what a start may take on a busy machine
LOOK = 0.1  # seconds between looks
GRACE = 10.0  # seconds from the end of standard input to a kill
LAST_WORDS = 2000  # characters of a log that explain why a program did not start


class NotReadyError(Exception):
    """A program did not do what a run needs; says which, and why."""


class Program:
    """A running program. `line` is the first it printed: where it listens, say."""

    def __init__(self, process: Process, line: str) -> None:
        self.line = line
        self.pid = process.pid
        self._process = psutil.Process(process.pid)

    def cpu(self) -> float:
        """Seconds of processor time it has used."""
        times = self._process.cpu_times()
        return times.user + times.system


@asynccontextmanager
async def running(command: list[str], env: Mapping[str, str], log: Path) -> AsyncIterator[Program]:
    """A program that says it is ready; it ends with the block.

    Raises:
        NotReadyError: it ended before, or took longer than START.
    """
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=stderr, env={**os.environ, **env}
        )
    try:
        line = await _first_line(process)
        if not line:
            raise NotReadyError(f"{' '.join(command)} did not start:\n{_last_words(log)}")
        yield Program(process, line)
    finally:
        await _end(process)


async def wait_until(ready: Callable[[], Awaitable[bool]], what: str) -> None:
    """Look again and again.

    Raises:
        NotReadyError: `ready` was not true within START.
    """
    try:
        async with asyncio.timeout(START):
            while not await ready():  # noqa: ASYNC110 - another program has no event of ours
                await asyncio.sleep(LOOK)  # noqa: TID251 - as above
    except TimeoutError:
        raise NotReadyError(f"{what} within {START:g} s") from None


async def _first_line(process: Process) -> str:
    assert process.stdout is not None
    with suppress(TimeoutError):
        async with asyncio.timeout(START):
            return (await process.stdout.readline()).decode()
    return ""


def _last_words(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-LAST_WORDS:]


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(GRACE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
