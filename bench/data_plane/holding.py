"""Connections that are held open: what each takes of a process, and whether it says anything too late."""

import asyncio
from pathlib import Path

from bench.data_plane.client import Seen, client, read
from bench.data_plane.results import Held
from bench.data_plane.subjects import Subject

FEW = 10  # connections whose memory is not counted, but what the first ones take once and for all


async def hold(program: Path, subject: Subject, body: bytes, connections: int, seconds: int) -> Held:
    """Ask over so many connections, keep them for so long, and see. `program`: the compiled client.

    Raises:
        NotReadyError: they are not all answered.
    """
    async with client(program, subject.url, body, FEW):
        before = _memory(subject)
        async with client(program, subject.url, body, connections) as log:
            used = _cpu(subject)
            await asyncio.sleep(seconds)  # noqa: TID251 - what is measured is that nothing happens
            busy, after = _cpu(subject) - used, _memory(subject)
        known = subject.meter is not None
        memory = (after - before) / connections if known else None
        return _held(subject.name, read(log), memory, busy / seconds if known else None)


def _memory(subject: Subject) -> int:
    return 0 if subject.meter is None else subject.meter.memory()


def _cpu(subject: Subject) -> float:
    return 0.0 if subject.meter is None else subject.meter.cpu()


def _held(name: str, seen: Seen, memory: float | None, busy: float | None) -> Held:
    return Held(
        subject=name,
        connections=seen.connections,
        seconds=seen.duration / 1e6,
        lost=seen.lost,
        memory=memory,
        busy=busy,
        pieces=seen.times,
        gap_p50=seen.p50 / 1e3,
        gap_p99=seen.p99 / 1e3,
        gap_max=seen.max / 1e3,
        late=seen.late,
    )
