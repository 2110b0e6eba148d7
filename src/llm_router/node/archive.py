"""Unpacks zip, tar.gz and tar.zst, and lets nothing out of the directory it is given.

Rule 1: a member's path is relative, has no `..`, and means the same on every system.
Rule 2: files and directories come first, links last: nothing is ever written through a link.
Rule 3: when all links are there, each must lead to a place inside; what a chain of links leads to, the system says.
Rule 4: devices, pipes and sockets are refused.
Rule 5: what comes out is bounded: an archive of some kB can hold more than any disk.

Whoever breaks a rule is refused as a whole; the caller throws away what was unpacked until then. Everything here
blocks: call it from a thread.
"""

import gzip
import io
import os
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TYPE_CHECKING, Literal, Protocol, TypeAlias

import msgspec

from llm_router.errors import RouterError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_BYTES = 64_000_000_000  # the largest package so far, Ollama's with ROCm, has below 10 GB
MAX_MEMBERS = 200_000  # a ROCm package has some thousand files
LONGEST_LINK = 4096  # bytes of a link's target: PATH_MAX
BLOCK = 1 << 20  # bytes that are copied at once
SUFFIXES = (".zip", ".tgz", ".tar.gz", ".tar.zst")


class ArchiveRefused(RouterError):
    """An archive is damaged, or holds what must not be unpacked; the message names archive and member."""

    code = "archive_refused"


class Content(Protocol):
    """What a member holds."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most so many; none at the end."""


class _Unsafe(Exception):
    """A member that breaks a rule."""


Kind: TypeAlias = Literal["file", "directory", "symlink", "hardlink"]


class Member(msgspec.Struct, frozen=True):
    """One member of an archive, whatever its format. `target`: what a link leads to; `mode`: the permissions."""

    name: str
    kind: Kind
    mode: int = 0
    target: str = ""


def unpack(archives: Sequence[Path], directory: Path, *, read: Callable[[int], None], limit: int = MAX_BYTES) -> None:
    """Unpack all of them into `directory`, one over the other; it must not be there yet.

    `read` is told how many bytes of an archive were read, again and again; what it raises ends the work.

    Raises:
        ArchiveRefused: one is damaged, of a kind we do not know, or breaks a rule.
        OSError: the disk cannot take it.
    """
    directory.mkdir(parents=True)
    unpacking = _Unpacking(directory, limit)
    for archive in archives:
        with _refusals(archive):
            for member, content in _members(archive, read):
                unpacking.take(member, content)
    with _refusals(archives[-1]):
        unpacking.link()


class _Unpacking:
    """The directory as it fills."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._root = directory
        self._left = limit
        self._members = 0
        self._links: dict[Path, str] = {}

    def take(self, member: Member, content: Content | None) -> None:
        """Write one member; a link is only noted."""
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise _Unsafe(f"it has more than {MAX_MEMBERS} members")
        path = self._root.joinpath(*_parts(member.name))
        self._links.pop(path, None)  # of two with one name the later counts
        if member.kind == "symlink":
            self._links[path] = member.target
        elif member.kind == "directory":
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            self._fill(path, member, content)

    def link(self) -> None:
        """Make the links, and look where they lead."""
        for path in self._links:  # before the first link is there: a directory must not be made through one
            path.parent.mkdir(parents=True, exist_ok=True)
        for path, target in self._links.items():
            path.symlink_to(target)
        inside = os.path.realpath(self._root) + os.sep
        for path, target in self._links.items():
            if not (os.path.realpath(path) + os.sep).startswith(inside):
                raise _Unsafe(f"{path.relative_to(self._root)} leads out of it, to {target}")

    def _fill(self, path: Path, member: Member, content: Content | None) -> None:
        if member.kind == "hardlink":
            path.hardlink_to(self._file(member))
            return
        with path.open("xb") as file:
            while content is not None and (block := content.read(BLOCK)):
                self._left -= len(block)
                if self._left < 0:
                    raise _Unsafe("it holds more than can be meant")
                file.write(block)
        path.chmod(0o600 | (member.mode & 0o755))  # as it was packed, but not writable for all, and never set-uid

    def _file(self, member: Member) -> Path:
        """What a hard link is another name for: a file that is there already, as tar has it."""
        path = self._root.joinpath(*_parts(member.target))
        if not path.is_file():
            raise _Unsafe(f"{member.name} is linked to {member.target}, which is no file of it")
        return path


def _parts(name: str) -> tuple[str, ...]:
    """A member's path, in parts. An empty one is the directory itself.

    Raises:
        _Unsafe: it breaks rule 1.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or PureWindowsPath(name).drive:
        raise _Unsafe(f"{name!r} is an absolute path")
    if ".." in parts or "\\" in name or "\0" in name:
        raise _Unsafe(f"{name!r} could lead out of it")
    return parts


@contextmanager
def _refusals(archive: Path) -> Iterator[None]:
    damage = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, zstd.ZstdError)
    try:
        yield
    except _Unsafe as error:
        raise ArchiveRefused(f"{archive.name} is refused, nothing of it was installed: {error}") from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        name = Path(error.filename or "").name
        raise ArchiveRefused(
            f"{archive.name} is refused, nothing of it was installed: two are called {name}"
        ) from error
    except damage as error:
        raise ArchiveRefused(f"{archive.name} is damaged: {error}") from error


# -- the formats


def _members(archive: Path, read: Callable[[int], None]) -> Iterator[tuple[Member, Content | None]]:
    """Every member, with what it holds if it is a file; that is to be read before the next one is asked for."""
    with io.BufferedReader(_Counting(archive, read), BLOCK) as file:
        if archive.name.endswith(".zip"):
            yield from _zip_members(file)
        elif archive.name.endswith((".tgz", ".tar.gz")):
            with gzip.GzipFile(fileobj=file) as stream:
                yield from _tar_members(stream)
        elif archive.name.endswith(".tar.zst"):
            with zstd.ZstdFile(file) as stream:
                yield from _tar_members(stream)
        else:
            raise _Unsafe(f"it is none of {', '.join(SUFFIXES)}")


def _tar_members(stream: gzip.GzipFile | zstd.ZstdFile) -> Iterator[tuple[Member, Content | None]]:
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as tar:
        for info in tar:
            yield (
                Member(info.name, _tar_kind(info), info.mode, info.linkname),
                tar.extractfile(info) if info.isreg() else None,
            )


def _tar_kind(info: tarfile.TarInfo) -> Kind:
    if info.isreg():
        return "file"
    if info.isdir():
        return "directory"
    if info.issym():
        return "symlink"
    if info.islnk():
        return "hardlink"
    raise _Unsafe(f"{info.name} is a device or a pipe")


def _zip_members(file: IO[bytes]) -> Iterator[tuple[Member, Content | None]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = _zip_kind(info)
            name = info.filename.replace("\\", "/")  # Windows PowerShell's Compress-Archive writes its own separators
            with archive.open(info) as content:
                target = content.read(LONGEST_LINK).decode() if kind == "symlink" else ""
                yield Member(name, kind, info.external_attr >> 16 or 0o644, target), content


def _zip_kind(info: zipfile.ZipInfo) -> Kind:
    """From the Unix mode in the upper half of the external attributes, as Info-ZIP writes it; 0 where there is none."""
    if info.filename.endswith(("/", "\\")):
        return "directory"
    form = stat.S_IFMT(info.external_attr >> 16)
    if form in (0, stat.S_IFREG):
        return "file"
    if form == stat.S_IFLNK:
        return "symlink"
    raise _Unsafe(f"{info.filename} is a device or a pipe")


class _Counting(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, read: Callable[[int], None]) -> None:
        super().__init__(path)
        self._tell = read

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read, and tell."""
        count = super().readinto(buffer)
        self._tell(count)
        return count
