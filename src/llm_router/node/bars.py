"""What a node fetches, as bars on a terminal (requirement G5)."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from llm_router import contract

LOOK_EVERY = 0.5  # seconds


async def watch(under_way: Callable[[], list[contract.Progress]]) -> None:
    """Show what is under way on standard error until cancelled; on no terminal, return at once."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return
    with Bars(console) as bars:
        while True:
            bars.show(under_way())
            await asyncio.sleep(LOOK_EVERY)  # noqa: TID251 - the pause between two looks


class Bars:
    """A line for each thing under way; nothing is left of it when it is over. On no terminal: nothing at all."""

    def __init__(self, console: Console) -> None:
        """`console`: what else is printed there meanwhile stands above the bars."""
        self._console = console
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.show([])

    def show(self, under_way: list[contract.Progress]) -> None:
        """What is under way now, instead of what was shown before."""
        if not self._console.is_terminal:
            return
        if not under_way:
            self._end()
            return
        live = self._live or self._begin()
        for name in self._tasks.keys() - {thing.name for thing in under_way}:
            live.remove_task(self._tasks.pop(name))
        for thing in under_way:
            if thing.name not in self._tasks:
                self._tasks[thing.name] = live.add_task(thing.name, step=thing.step)
            live.update(self._tasks[thing.name], step=thing.step, completed=thing.done, total=thing.total or None)

    def _begin(self) -> Progress:
        self._live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[step]}", style="dim"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._live.start()
        return self._live

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
        self._live = None
        self._tasks.clear()
