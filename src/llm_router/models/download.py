"""Fetches files over HTTP: resumed where a transfer broke, checked as a whole, through the proxy that the machine has.

A file grows beside its place and gets its name when it is complete and right (`partial`). What is cut short stays, for
the next call to resume. What answers mean is in `answers`, how servers are asked in `way`.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import aiohttp
import msgspec

from llm_router.models.allow import Allowlist
from llm_router.models.answers import Place, part_place, place_of, rest_wanted, tag_of
from llm_router.models.failures import NoRoom, NotOffered, Unreachable, WrongChecksum
from llm_router.models.partial import Partial, check_room, is_there, partial_size
from llm_router.models.way import NO_HEADERS, Broken, Way, answered, shown, way_for

FAR_BEHIND = 4 << 20  # bytes that may wait for the disk: 40 ms of a 1 Gbit/s network
LONGEST_TEXT = 16_000_000  # bytes; the index of a model's 90,000 tensors has 9 million

Args = TypeVarTuple("Args")
T = TypeVar("T")


class Patience(msgspec.Struct, frozen=True):
    """How long to keep trying: `retries` after the first attempt, pauses of 1, 2, 4 … `max_backoff` seconds.

    `stall`: seconds without a byte after which a transfer counts as broken.
    """

    retries: int = 5
    max_backoff: float = 60.0
    stall: float = 60.0


MODEL_PATIENCE = Patience(stall=300.0)  # requirement H4: five minutes without progress are a failure


class Text(msgspec.Struct, frozen=True):
    """A small file, and every URL on the way to it: the one asked for, then those redirected to."""

    body: str
    urls: list[str]


class Part(msgspec.Struct, frozen=True):
    """Bytes of a file: from `start` on, of `total`, 0 where nobody knows. Empty behind the file's end."""

    body: bytes
    start: int
    total: int


def _nobody(*_: object) -> None:
    """Where a caller does not want to be told."""


class _Wanted(msgspec.Struct, frozen=True):
    """A file, as it was announced; `sha256` is empty and `size` 0 where nobody knows."""

    url: str
    sha256: str
    size: int


async def download(  # noqa: PLR0913 - keywords that stand for themselves
    session: aiohttp.ClientSession,
    url: str,
    target: Path,
    *,
    sha256: str = "",
    size: int = 0,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
    progress: Callable[[int, int], None] = _nobody,
    waiting: Callable[[str, float], None] = _nobody,
    allow: Allowlist | None = None,
    headers: Mapping[str, str] = NO_HEADERS,
    proxied: bool = True,
) -> None:
    """Fetch `url` to `target`, whose directory is made where it is missing; one call at a time for one target.

    `sha256`: the file's, in hexadecimal; a file that has it already is not fetched again. Empty: nothing is checked.
    `size`: bytes that it has, 0 where nobody knows.
    `progress` is told bytes so far and in all, or 0; `waiting`, before each pause, why an attempt failed and for how
    many seconds nothing happens now. Cancelled, it keeps what it has.
    `allow`: what it may be fetched from, also where redirects lead; None is everything. `session` is then used for what
    goes through a proxy, which resolves names itself; connections of our own lead to addresses that were checked.
    `headers`: sent to the origin of `url`, and nowhere else. `proxied`: through the proxy, where there is one.

    Raises:
        Unreachable: every attempt failed.
        NotOffered: the server has no such file for us.
        OriginDenied: `allow` does not have it, or what it leads to.
        WrongChecksum: the file is another than announced, and is not kept.
        NoRoom: the disk is full, or will be, or cannot be written; before anything is fetched, where that can be told.
    """
    stop = threading.Event()
    wanted = _Wanted(url, sha256.lower(), size)
    partial = Partial(target, sha256)
    try:
        if await in_thread(is_there, target, sha256, stop, stop=stop.set):
            return
        if allow is not None:
            allow.check(url)
        await in_thread(_check_room, target, size)
        try:
            await in_thread(partial.open, stop, stop=stop.set)
            async with way_for(session, allow, headers, patience.stall, proxied=proxied) as way:
                await _patiently(patience, waiting, lambda: _attempt(way, wanted, partial, progress))
            await in_thread(partial.finish)
        finally:
            await in_thread(partial.close)
    except OSError as error:
        raise NoRoom(f"{target} cannot be written: {error.strerror or error}") from error


def _check_room(target: Path, size: int) -> None:
    check_room(target, size - partial_size(target))


async def fetch_text(
    session: aiohttp.ClientSession,
    url: str,
    *,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
    waiting: Callable[[str, float], None] = _nobody,
    allow: Allowlist | None = None,
    headers: Mapping[str, str] = NO_HEADERS,
) -> Text:
    """Fetch a small text file; `allow` and `headers` as in `download`.

    Raises:
        Unreachable, NotOffered, OriginDenied: as `download`.
    """

    async def attempt() -> Text:
        async with answered(way, url, {}) as (response, urls):
            body = await _read(response, LONGEST_TEXT + 1)
        if len(body) > LONGEST_TEXT:
            raise NotOffered(f"{shown(url)} is longer than {LONGEST_TEXT} bytes, which is no list")
        return Text(body.decode(errors="replace"), urls)

    async with way_for(session, allow, headers, patience.stall) as way:
        return await _patiently(patience, waiting, attempt)


async def fetch_part(
    session: aiohttp.ClientSession,
    url: str,
    start: int,
    count: int,
    *,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
    waiting: Callable[[str, float], None] = _nobody,
    allow: Allowlist | None = None,
    headers: Mapping[str, str] = NO_HEADERS,
) -> Part:
    """Fetch `count` bytes of a file from `start` on, and no more; `allow` and `headers` as in `download`.

    A server that does not know Range (RFC 9110, 14.2) is read from the file's beginning, up to the same byte.

    Raises:
        Unreachable, NotOffered, OriginDenied: as `download`.
    """

    async def attempt() -> Part:
        async with answered(way, url, {"range": f"bytes={start}-{start + count - 1}"}) as (response, _):
            place = part_place(response.status, response.headers, start)
            if place is None:
                raise Broken(f"{shown(url)} answered with another part than was asked for")
            is_behind = response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            body = b"" if is_behind else await _read(response, start + count - place.start)
        return Part(body, place.start, place.total)

    async with way_for(session, allow, headers, patience.stall) as way:
        return await _patiently(patience, waiting, attempt)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """What it holds, up to so many bytes."""
    body = bytearray()
    async for block in response.content.iter_any():
        body += block
        if len(body) >= most:
            break
    return bytes(body[:most])


async def in_thread(work: Callable[[*Args], T], *args: *Args, stop: Callable[[], None] = _nobody) -> T:
    """`work` in a thread. When cancelled, it ends no sooner than the thread does, so that no two have one file.

    `stop` is called then, for work that can be asked to end early.
    """
    task = asyncio.create_task(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait({task})
        task.exception()  # seen: the caller goes away, whatever it was
        raise


# -- one attempt, and when there is another


async def _attempt(way: Way, wanted: _Wanted, partial: Partial, progress: Callable[[int, int], None]) -> None:
    """One request, from where the last one broke off; then the check."""
    url = shown(wanted.url)
    async with answered(way, wanted.url, rest_wanted(partial.size, partial.tag)) as (response, _):
        place = place_of(response.status, response.headers, partial.size, partial.tag)
        if place is None:
            await in_thread(partial.restart, "")
            raise Broken(f"{url} answered with another part than was asked for")
        if wanted.size and place.total not in (0, wanted.size):
            raise WrongChecksum(f"{url} has {place.total} bytes, but {wanted.size} were announced")
        if response.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            await _receive(response, partial, place, wanted, progress)
    if place.total and partial.size != place.total:
        raise Broken(f"{url} ended after {partial.size} of {place.total} bytes")
    await _check(wanted, partial)


async def _receive(
    response: aiohttp.ClientResponse,
    partial: Partial,
    place: Place,
    wanted: _Wanted,
    progress: Callable[[int, int], None],
) -> None:
    """The bytes of an answer to where they belong; the check that follows sees it if they are more than announced.

    What the HTTP client holds when a connection breaks is lost. So nothing is left there to wait for the disk: the
    first byte is taken before the file is made ready for it.
    """
    tag = tag_of(response.headers, wanted.sha256)
    writer = _Writer(asyncio.create_task(in_thread(_make_ready, partial, place, tag)), partial)
    done, total = place.start, place.total or wanted.size
    try:
        async for block in response.content.iter_any():
            await writer.write(block)
            done += len(block)
            progress(done, total)
            if wanted.size and done > wanted.size:  # of no use, and nobody knows when it ends
                break
    finally:
        await writer.flush()


def _make_ready(partial: Partial, place: Place, tag: str) -> None:
    check_room(partial.target, place.total - partial.size)  # also where these make room for others
    partial.continue_at(place.start, tag)


class _Writer:
    """Writes in a thread while more is received."""

    def __init__(self, writing: asyncio.Task[None], partial: Partial) -> None:
        """`writing`: what is to be done before the first write."""
        self._writing = writing
        self._partial = partial
        self._waiting = bytearray()

    async def write(self, block: bytes) -> None:
        """Take the next bytes; returns at once, unless the disk is far behind."""
        self._waiting += block
        if self._writing.done() or len(self._waiting) > FAR_BEHIND:
            await self._write()

    async def flush(self) -> None:
        """Until all of it is written."""
        await self._write()
        await self._writing

    async def _write(self) -> None:
        """Begin to write what waits, as soon as what is being written is."""
        await self._writing
        self._writing = asyncio.create_task(self._empty())

    async def _empty(self) -> None:
        """Write what waits, and what comes meanwhile: who reads the file as it grows sees all that there is."""
        while self._waiting:
            block = bytes(self._waiting)
            self._waiting.clear()
            await in_thread(self._partial.append, block)


async def _check(wanted: _Wanted, partial: Partial) -> None:
    """Nothing, if it is what was announced; else it is thrown away (requirement H8)."""
    if not (difference := _difference(wanted, partial)):
        return
    message = f"{shown(wanted.url)} {difference} announced; it was thrown away"
    in_pieces = partial.in_pieces
    await in_thread(partial.restart, "")
    if in_pieces:  # they may be of two files, or the disk lost some in a power cut: in one piece it may be right
        raise Broken(message)
    raise WrongChecksum(message)


def _difference(wanted: _Wanted, partial: Partial) -> str:
    if wanted.size and partial.size != wanted.size:
        return f"has {partial.size} bytes or more, but {wanted.size} were"
    if wanted.sha256 and (found := partial.digest()) != wanted.sha256:
        return f"has the SHA-256 checksum {found}, but {wanted.sha256} was"
    return ""


async def _patiently(
    patience: Patience, waiting: Callable[[str, float], None], attempt: Callable[[], Awaitable[T]]
) -> T:
    """`attempt`, again and again, as requirement G3 has it."""
    failures = 0
    while True:
        try:
            return await attempt()
        except Broken as error:
            failures += 1
            if failures > patience.retries:
                reason = f"{error} (attempt {failures} of {failures}); is there a network, and a proxy to go through?"
                raise Unreachable(reason) from error
            wait = pause(failures, error.retry_after, patience.max_backoff)
            waiting(str(error), wait)
        await asyncio.sleep(wait)  # noqa: TID251 - the pause that requirement G3 asks for


def pause(failures: int, retry_after: float, longest: float) -> float:
    """Seconds to wait after so many failures, 1 or more: 1, 2, 4 …, or what the server asks for; never over `longest`.

    There is no jitter: this is one machine at one file, and no herd.
    """
    doubled: float = 2.0 ** min(failures - 1, 30)
    return min(longest, max(doubled, retry_after))
