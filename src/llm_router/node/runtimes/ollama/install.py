"""The node's own Ollama on the disk: found, or fetched, checked, unpacked and put in its place.

    <directory>/<version>/      an install: the whole package; it has this name only when it is complete
    <directory>/.downloads/     packages as they come; what was cut short is resumed by the next attempt
    <directory>/.unpacking/     packages as they are unpacked; a leftover is of no use

Nothing outside `directory` is touched: a user's own Ollama stays as it is (requirement G1).
"""

import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
from structlog.typing import FilteringBoundLogger

from llm_router.contract import Progress
from llm_router.models.download import Patience, download, in_thread
from llm_router.models.failures import NoRoom, NotOffered
from llm_router.models.meter import Meter
from llm_router.node.archive import ArchiveRefused, unpack
from llm_router.node.runtimes.ollama.release import (
    PROGRAMS,
    VERSION,
    Machine,
    NoPackage,
    Package,
    Release,
    Source,
    find_release,
)

DOWNLOADS = ".downloads"
UNPACKING = ".unpacking"


class Install(msgspec.Struct, frozen=True):
    """One Ollama that can be started."""

    version: str
    program: Path


class Installer:
    """The one owner of `directory`; one call of `install` at a time."""

    def __init__(
        self,
        directory: Path,
        machine: Machine,
        source: Source,
        session: aiohttp.ClientSession,
        log: FilteringBoundLogger,
        *,
        patience: Patience = Patience(),  # noqa: B008 - it is frozen
    ) -> None:
        self._directory = directory
        self._machine = machine
        self._source = source
        self._session = session
        self._log = log
        self._patience = patience
        self._step = ""
        self._said = ""  # why it had to wait
        self._meter = Meter()

    async def find(self) -> Install | None:
        """The install of the version that is wanted; of the newest that is there, where any will do.

        Raises:
            ConfigError: the source makes no sense.
        """
        source = self._source.checked()
        return await in_thread(find, self._directory, self._machine.system, source.version)

    async def install(self) -> Install:
        """Fetch what the source has, and put it in its place; other versions are removed then.

        Raises:
            Unreachable: the network gave way; what has come is kept, and another call goes on from there.
            NoPackage, NotOffered, WrongChecksum, ArchiveRefused, NoRoom, ConfigError: another call will not do better
                until somebody has done what the message says. Nothing is installed.
        """
        try:
            self._begin("looking for a release")
            release = await find_release(self._session, self._source, self._patience, self._waiting)
            archives = [await self._fetch(release, stem) for stem in self._machine.stems]
            install = await self._put_in_place(release, [archive for archive in archives if archive])
        finally:
            self._step = ""
        self._log.info("ollama.installed", version=install.version, program=str(install.program))
        return install

    def progress(self) -> Progress | None:
        """What `install` is at now; None where it is at nothing."""
        if not self._step:
            return None
        meter = self._meter
        rate = meter.rate(time.monotonic())
        return Progress("runtime", "ollama", self._step, done=meter.done, total=meter.total, rate=round(rate, 1))

    def _begin(self, step: str) -> None:
        self._step = step
        self._meter = Meter()

    def _note(self, done: int, total: int) -> None:
        self._step = "downloading"  # again, after a pause
        self._meter.note(done, total, time.monotonic())

    def _waiting(self, reason: str, seconds: float) -> None:
        """A reason is said once; what follows is for those who debug."""
        self._step = "waiting for the network"
        write = self._log.debug if reason == self._said else self._log.info
        write("ollama.download_paused", reason=reason, seconds=round(seconds, 1))
        self._said = reason

    async def _fetch(self, release: Release, stem: str) -> Path | None:
        """One package on the disk, checked. None: it holds extra libraries, and there is none in this release."""
        choices = release.choices(stem, self._machine.system)
        while choices:
            try:
                return await self._download(release, choices.pop(0))
            except NotOffered:
                if release.checksums or not choices:  # listed, so it must be there; or nothing else could be
                    raise
        if stem == self._machine.stems[0]:
            raise NoPackage(f"{release.base} lists no package {stem}: choose another release with OLLAMA_VERSION")
        self._log.warning("ollama.no_gpu_libraries", package=stem, version=release.version)
        return None

    async def _download(self, release: Release, package: Package) -> Path:
        target = self._directory / DOWNLOADS / release.version / package.name
        self._begin("downloading")
        self._log.info("ollama.downloading", url=package.url)
        await download(
            self._session,
            package.url,
            target,
            sha256=package.sha256,
            patience=self._patience,
            progress=self._note,
            waiting=self._waiting,
        )
        return target

    async def _put_in_place(self, release: Release, archives: list[Path]) -> Install:
        self._begin("unpacking")
        stop = threading.Event()
        total = sum(archive.stat().st_size for archive in archives)

        def read(count: int) -> None:
            """From the thread: how much more was read."""
            if stop.is_set():
                raise _Stopped
            self._meter.note(self._meter.done + count, total, time.monotonic())

        def work() -> Install:
            return put_in_place(archives, self._directory, self._machine.system, release.version, read)

        try:
            return await in_thread(work, stop=stop.set)
        except OSError as error:
            raise NoRoom(f"Ollama cannot be unpacked to {self._directory}: {error.strerror or error}") from error


class _Stopped(Exception):
    """The agent ends, and what is being unpacked is of no use."""


# -- on the disk; everything here blocks


def find(directory: Path, system: str, version: str) -> Install | None:
    """The install of this version, or the newest if it is empty."""
    paths = [path for path in directory.glob("*") if VERSION.fullmatch(path.name)]
    installs = [Install(path.name, program) for path in paths if (program := _program(path, system))]
    return max((i for i in installs if version in ("", i.version)), key=lambda i: _age(i.version), default=None)


def put_in_place(
    archives: list[Path], directory: Path, system: str, version: str, read: Callable[[int], None]
) -> Install:
    """Unpack the packages as one install, and remove the others; `read` as in `archive.unpack`.

    Raises:
        ArchiveRefused: as `archive.unpack`, or the program is not in it; then the packages are removed too.
        OSError: the disk cannot take it.
    """
    staging, final = directory / UNPACKING, directory / version
    try:
        shutil.rmtree(staging, ignore_errors=True)
        unpack(archives, staging, read=read)
        program = _unpacked_program(staging, system, archives[0])
        if final.exists():  # one without its program: somebody was at it
            shutil.rmtree(final)
        staging.rename(final)
    except ArchiveRefused:
        shutil.rmtree(directory / DOWNLOADS)
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _remove_others(directory, system, final)
    return Install(version, final / program.relative_to(staging))


def _remove_others(directory: Path, system: str, keep: Path) -> None:
    """Other installs, and what was fetched. On Windows one that runs cannot be removed: it goes the next time."""
    shutil.rmtree(directory / DOWNLOADS, ignore_errors=True)
    for path in directory.iterdir():
        if path != keep and VERSION.fullmatch(path.name) and _program(path, system):
            shutil.rmtree(path, ignore_errors=True)


def _unpacked_program(staging: Path, system: str, archive: Path) -> Path:
    program = _program(staging, system)
    if program is None:
        raise ArchiveRefused(f"{archive.name} holds no {PROGRAMS[system][0]}, or it cannot be executed")
    return program


def _program(install: Path, system: str) -> Path | None:
    candidates = (install / name for name in PROGRAMS[system])
    return next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)


def _age(version: str) -> tuple[list[int], bool, list[int]]:
    """Newer versions are greater: by their numbers, and a release is newer than what was tried out for it (-rc1)."""
    number, _, trial = version.partition("-")
    return _numbers(number), not trial, _numbers(trial)


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]
