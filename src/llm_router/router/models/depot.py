"""Files of models that pass through the router on their way from their origin to nodes (requirement H6).

Rule 1: a file is fetched once, whoever asks and how many do: they all read the one that grows.
Rule 2: its last byte is handed out when it has been checked. So whoever has all of it has what was announced.
Rule 3: what is begun anew is another file to those who read it: they are cut off, and ask again.
Rule 4: nobody has to give a file back. Those who read are counted; when nobody has for `linger` seconds, it goes.

    the file is                     and nobody reads it for `linger` seconds
    complete                        deleted, unless files are kept
    on its way                      no more is fetched; what is there stays for a day, to go on from
    not to be had                   forgotten; until then whoever asks hears at once why

A file that cannot be had for now only (`Unreachable`) is forgotten at once.
"""

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from hashlib import sha256
from pathlib import Path
from typing import Protocol, Self

import structlog

from llm_router.errors import NotFound, RouterError, UpstreamFailed
from llm_router.models.failures import DownloadFailed, OriginDenied, Unreachable
from llm_router.models.manifest import ModelFile

LINGER = 60.0  # seconds: longer than a node waits between two tries of a transfer that broke (requirement G3)
LEFT_OVER = 86_400.0  # seconds; who has not come back for a part of a file by then fetches it by other ways, or not
SWEEP_EVERY = 3600.0  # seconds: exact enough for a day
BLOCK = 1 << 20  # bytes read at once, and news to those who wait for more: a thread is not asked for every packet
LOOK_EVERY = 0.25  # seconds after which they look whether it is less than that: a slow origin is no stall

_PART = re.compile(r"\.partial(\.tag)?$")  # as `models.partial` calls them
_ODD = re.compile(r"[^A-Za-z0-9_.-]")

log = structlog.get_logger()


class Fetch(Protocol):
    """`models.download.download`, with all that is the same for each file."""

    async def __call__(
        self, url: str, target: Path, *, sha256: str, size: int, progress: Callable[[int, int], None]
    ) -> None:
        """Fetch `url` to `target`. Raises DownloadFailed."""


class Depot:
    """All files on their way. `start` before use, `stop` after."""

    def __init__(self, directory: Path, fetch: Fetch, *, keep: bool, linger: float = LINGER) -> None:
        """`directory`: for these files alone. `keep`: complete ones stay. `linger`: seconds, see the table."""
        self._directory = directory
        self._fetch = fetch
        self._keep = keep
        self._linger = linger
        self._passing: dict[Path, Passing] = {}
        self._leaving: dict[Path, asyncio.Task[None]] = {}
        self._sweep: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look through what an earlier run left, as soon as those who were reading it have had time to come back."""
        self._sweep = asyncio.create_task(self._sweep_up())

    async def stop(self) -> None:
        """Whoever reads is cut off; what is on its way is left to the next run."""
        tasks = [passing.task for passing in self._passing.values()] + list(self._leaving.values())
        tasks += [self._sweep] if self._sweep is not None else []
        for passing in list(self._passing.values()):
            passing.forget()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def open(self, model: str, file: ModelFile) -> "Reader":
        """A reader of this file, which is there, on its way, or begun now. It returns when the first byte is there.

        Raises:
            NotFound: it cannot be had, or not as it was announced; the message says why.
            DownloadFailed: its origin cannot be reached now, or is not allowed.
        """
        target = self._directory / _place(model, file)
        if await asyncio.to_thread(target.parent.is_symlink):
            raise NotFound(f"{target.parent} is a link, and what it leads to is not for the router to write: remove it")
        while (leaving := self._leaving.get(target)) is not None:
            await asyncio.wait({leaving})
        passing = self._passing.get(target)
        if passing is None:
            passing = self._passing[target] = Passing(target, file, self._linger, self._leave)
            passing.task = asyncio.create_task(self._bring(passing, file))
            passing.task.add_done_callback(passing.ended)
        passing.enter()
        try:
            await passing.begun()
        finally:
            passing.leave()
        return Reader(passing)

    async def _bring(self, passing: "Passing", file: ModelFile) -> None:
        """See that the file is there."""
        there = await asyncio.to_thread(_size, passing.target)
        if there >= 0 and file.size in (0, there):
            passing.complete(there)
            return
        try:
            await self._fetch(
                file.url, passing.target, sha256=file.sha256, size=file.size, progress=passing.has_received
            )
        except Unreachable as error:
            self._passing.pop(passing.target, None)
            passing.fail(error)
        except OriginDenied as error:
            passing.fail(error)
        except DownloadFailed as error:  # 404, so that no node asks again and again: nothing will have changed
            passing.fail(NotFound(error.message))
        else:
            passing.complete(await asyncio.to_thread(_size, passing.target))

    def _leave(self, passing: "Passing") -> None:
        """Nobody has read it for a while."""
        if self._passing.get(passing.target) is passing:
            del self._passing[passing.target]
            self._remove(passing.target, self._take_away(passing))

    def _remove(self, target: Path, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Whoever opens this file waits until `work` is done with it."""
        self._leaving[target] = leaving = asyncio.create_task(work)
        leaving.add_done_callback(lambda _: self._leaving.pop(target, None))
        return leaving

    async def _take_away(self, passing: "Passing") -> None:
        passing.task.cancel()
        await asyncio.wait({passing.task})
        if passing.is_complete and not self._keep:
            await asyncio.to_thread(_delete, passing.target)

    async def _sweep_up(self) -> None:
        wait = self._linger
        while True:
            await asyncio.sleep(wait)  # noqa: TID251 - nobody comes back in this time: that is what is waited for
            for path in await asyncio.to_thread(_left_over, self._directory, time.time(), keep=self._keep):
                target = path.with_name(_PART.sub("", path.name))
                if target not in self._passing and target not in self._leaving:
                    await self._remove(target, asyncio.to_thread(_delete, path))
            wait = SWEEP_EVERY


class Passing:
    """One file: how much of it is there, and who waits for more. Made and used in one event loop."""

    task: asyncio.Task[None]

    def __init__(self, target: Path, file: ModelFile, linger: float, leave: Callable[["Passing"], None]) -> None:
        """`leave` is called when nobody has read it for `linger` seconds."""
        self.target = target
        self.size = file.size  # 0: not known yet
        self.is_complete = False
        self.failure: RouterError | None = None
        self.beginnings = 0  # how often it was begun
        self.received = 0  # bytes; some of them may not be on the disk yet
        self.news = asyncio.Event()  # set, and replaced, whenever there is something to look at
        self._known_as = file.sha256.lower()
        self._word = secrets.token_hex(8)
        self._readers = 0
        self._linger = linger
        self._leave = leave
        self._timer: asyncio.TimerHandle | None = None
        self._told = 0
        self._loop = asyncio.get_running_loop()

    @property
    def tag(self) -> str:
        """The name of this version: an entity tag (RFC 9110, 8.8.3). Without a checksum, it is of this beginning."""
        return f'"{self._known_as or f"{self._word}-{self.beginnings}"}"'

    # -- those who read

    def enter(self) -> None:
        """Somebody reads it, or waits to."""
        self._readers += 1
        self._stop_timer()

    def leave(self) -> None:
        """Somebody does not any more."""
        self._readers -= 1
        if not self._readers:
            self._timer = self._loop.call_later(self._linger, self._leave, self)

    def forget(self) -> None:
        """The depot stops: whether anybody reads it does not matter any more."""
        self._readers += 1
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the download

    def has_received(self, done: int, total: int) -> None:
        """So many bytes came, of so many, 0 where nobody knows."""
        if done < self.received:
            self.beginnings += 1
            self._told = 0
        first = not self.received
        self.received, self.size = done, self.size or total
        if first or done - self._told >= BLOCK:
            self._told = done
            self._tell()

    def complete(self, size: int) -> None:
        """All of it is there, and right."""
        self.received = self.size = size
        self.is_complete = True
        self._tell()

    def fail(self, failure: RouterError) -> None:
        """It will not come."""
        self.failure = failure
        self._tell()

    def ended(self, task: asyncio.Task[None]) -> None:
        """The download is over, in whatever way: nobody must wait for more of it."""
        if task.cancelled():
            self.fail(UpstreamFailed(f"{self.target.name} is not fetched any more: ask again"))
        elif (error := task.exception()) is not None:
            log.error("depot.task_failed", file=self.target.name, exc_info=error)
            self.fail(UpstreamFailed("an error inside the router; its log says more"))

    def _tell(self) -> None:
        news, self.news = self.news, asyncio.Event()
        news.set()

    # -- what is there

    async def begun(self) -> None:
        """Wait until there are bytes, and it is known how many there will be. Raises why there will be none."""
        while not self.is_complete:
            if self.failure is not None:
                raise self.failure
            if self.received and self.size:
                return
            await self.news.wait()

    async def read(self, start: int, stop: int, beginning: int) -> bytes:
        """Some bytes from `start` on, at most up to `stop`, as soon as there are any.

        Raises:
            RouterError: there will be none. UpstreamFailed: they would be of another beginning.
        """
        while True:
            news = self.news  # before anything is looked at, so that nothing is missed
            there = self.size if self.is_complete else min(self.received, self.size - 1)  # rule 2
            if start < min(stop, there):
                block = await asyncio.to_thread(self._read, start, min(stop, there) - start)
                self._check(beginning)
                if block:
                    return block
                if self.is_complete:
                    raise UpstreamFailed(f"{self.target.name} is not what it was: ask again")
            self._check(beginning)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), LOOK_EVERY)

    def _check(self, beginning: int) -> None:
        if self.failure is not None:
            raise self.failure
        if self.beginnings != beginning:
            raise UpstreamFailed(f"{self.target.name} was begun anew: ask again")

    def _read(self, start: int, count: int) -> bytes:
        """What there is on the disk of these; nothing, where it is not there. The file may get its name meanwhile.

        It is opened each time: Windows does not rename files that are open.
        """
        for path in (_partial(self.target), self.target):
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    return file.read(count)
            except FileNotFoundError:
                continue
        return b""


class Reader:
    """Somebody's look at a file. It counts as reading within `async with`."""

    def __init__(self, passing: Passing) -> None:
        self._passing = passing
        self._beginning = passing.beginnings
        self.size = passing.size
        self.tag = passing.tag

    async def __aenter__(self) -> Self:
        self._passing.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._passing.leave()

    async def blocks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, which is not one of them, as they come.

        Raises:
            RouterError: no more come; what was handed out is not all.
        """
        while start < stop:
            block = await self._passing.read(start, min(stop, start + BLOCK), self._beginning)
            start += len(block)
            yield block


def _place(model: str, file: ModelFile) -> Path:
    """Where a version of a file lies. Its name may be anything: it is there for people to read, not to tell it by."""
    which = sha256(f"{file.name}\n{file.url}\n{file.sha256.lower()}".encode()).hexdigest()[:16]
    last = _ODD.sub("_", file.name.rpartition("/")[2])[-100:]  # a third of what a file system takes, as is the rest
    return Path(model.replace("/", "+").replace(":", "="), f"{which}-{last}")


def _partial(target: Path) -> Path:
    """As `models.partial` has it."""
    return target.with_name(f"{target.name}.partial")


def _size(path: Path) -> int:
    """Bytes; -1: it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _delete(path: Path) -> None:
    """One that cannot be deleted, since a program holds it on Windows, is looked at again with the next sweep."""
    with contextlib.suppress(OSError):
        path.unlink()


def _left_over(directory: Path, now: float, *, keep: bool) -> list[Path]:
    """What nobody needs unless it is being read: complete files, if they are not kept, and parts after a day.

    What lies behind a link is not ours.
    """
    ours = [path for place in directory.glob("*") if not place.is_symlink() for path in place.glob("*")]
    parts = {path: bool(_PART.search(path.name)) for path in ours if not path.is_dir()}
    return [path for path, part in parts.items() if (_is_old(path, now) if part else not keep)]


def _is_old(path: Path, now: float) -> bool:
    try:
        return now - path.stat().st_mtime > LEFT_OVER
    except FileNotFoundError:
        return False
