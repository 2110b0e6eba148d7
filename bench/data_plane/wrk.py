"""The load: wrk, with as many connections as are wanted, each asking again as soon as it is answered."""

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import msgspec

from bench.data_plane.tools import path_of
from bench.processes import NotReadyError
from llm_router.contract import UNREADABLE

SCRIPT = Path(__file__).with_name("ask.lua")


class Load(msgspec.Struct, frozen=True):
    """What a run of wrk came to; times in microseconds.

    `requests` were answered, `refused` of them with a status of 400 or more; `broken` were not: no connection, cut off
    or too late.
    """

    requests: int
    duration: int
    p50: int
    p99: int
    refused: int
    broken: int

    @property
    def failed(self) -> int:
        """Those that did not get what they asked for."""
        return self.refused + self.broken


async def load(url: str, body: bytes, connections: int, seconds: int) -> Load:
    """Post `body` to `url` for so long, from one thread.

    Raises:
        NotReadyError: wrk did not run, or nothing was answered as it should be.
    """
    options = ["--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command = [path_of("wrk"), *options, "--script", str(SCRIPT), url, "--", body.decode()]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    found = parse(output.decode("utf-8", "replace"))
    if found.requests <= found.refused:
        raise NotReadyError(f"{url} answers no request: {found.refused} refused, {found.broken} broken")
    return found


def parse(output: str) -> Load:
    """Read the line that `ask.lua` wrote.

    Raises:
        NotReadyError: there is none; with wrk's own words.
    """
    try:
        return msgspec.json.decode(output.strip().rpartition("\n")[2], type=Load)
    except UNREADABLE:
        raise NotReadyError(f"wrk did not measure: {output.strip()}") from None
