"""The process that writes (`writer`), as the router sees it: started by the first batch, and again when it has died.

A batch whose answer never came is written again by who asked for it, though the process may have died after it had
written it and before it could say so: every batch at least once.
"""

import asyncio
import contextlib
import sys
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from msgspec import msgpack

from llm_router.router.store import writer
from llm_router.router.store.troubles import NotNow, Rejected
from llm_router.router.store.writer import Answer, Statement

# Classes of sqlite3's errors that pass: locked, disk full, read-only, not there, a table that is being changed.
_PASSING = frozenset({"OperationalError", "InterfaceError"})
# Seconds until a process that died again, without one answer in between, is started once more, doubled each time up to
# LONGEST_REST: starting one takes 50 ms of a core, and what killed it (memory, a broken disk) is mended by a person.
REST = 1.0
LONGEST_REST = 60.0


class WriterProcess:
    """Writes into one SQLite file. One `write` at a time, never cancelled; `stop` after the last."""

    def __init__(self, file: Path, patience: float) -> None:
        """`patience` in seconds: how long others who write into the file are waited for."""
        self._command = (sys.executable, "-m", writer.__name__, str(file), str(patience))
        self._process: Process | None = None
        self._deaths = 0  # since the last answer
        self._rests_until = 0.0

    async def write(self, statements: Iterable[Statement]) -> None:
        """Write all statements in one transaction. They are taken one by one, and the loop goes on in between.

        Raises:
            NotNow: the database is busy, the disk full; or the process died, and rests if it did so before.
            Rejected, OverflowError, ValueError: a parameter that cannot be written.
        """
        frames = []
        for statement in statements:
            frames.append(writer.frame(statement))
            await asyncio.sleep(0)  # noqa: TID251 - no pause: others' turn, since a thousand rows take 0.3 ms
        try:
            answer = await _ask(await self._running(), [*frames, writer.END])
        except (OSError, IncompleteReadError) as error:
            raise NotNow(await self._bury()) from error
        self._deaths = 0
        if answer is not None:
            kind, reason = answer
            raise NotNow(reason) if kind in _PASSING else Rejected(f"{kind}: {reason}")

    async def stop(self) -> None:
        """Let it end, when it has written what it was given."""
        process, self._process = self._process, None
        if process is not None:
            await _end(process)

    async def _running(self) -> Process:
        if self._process is not None and self._process.returncode is not None:
            await self._bury()  # it died while there was nothing to write
        if self._process is None:
            if (rest := self._rests_until - asyncio.get_running_loop().time()) > 0:
                raise NotNow(f"the process that writes keeps dying: it is started again in {rest:.0f} s")
            self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE)
        return self._process

    async def _bury(self) -> str:
        """What became of the process."""
        self._deaths += 1
        if self._deaths > 1:  # the first time it is started again at once
            rest = min(REST * 2 ** min(self._deaths - 2, 9), LONGEST_REST)
            self._rests_until = asyncio.get_running_loop().time() + rest
        process, self._process = self._process, None
        if process is None:
            return "the process that writes cannot be started"
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                process.kill()
        await _end(process)
        return f"the process that writes has ended (exit status {process.returncode})"


async def _ask(process: Process, frames: list[bytes]) -> Answer:
    stdin, stdout = cast("StreamWriter", process.stdin), cast("StreamReader", process.stdout)
    stdin.writelines(frames)
    await stdin.drain()
    (length,) = writer.HEAD.unpack(await stdout.readexactly(writer.HEAD.size))
    answer: Answer = msgpack.decode(await stdout.readexactly(length), type=Answer)
    return answer


async def _end(process: Process) -> None:
    cast("StreamWriter", process.stdin).close()
    await process.communicate()  # until it has closed its side, and ended
