"""Fetches files over HTTP: resumed where a transfer broke, checked as a whole, through the proxy that the machine has.

A file grows as `<target>.partial`, beside it `<target>.partial.tag` says which version of the file its bytes belong to;
only a file that is complete and right gets the name `<target>`. What is cut short stays, for the next call to resume.

What a server may answer when `have` bytes are there (RFC 9110, 14.4, 15.3.7 and 15.5.17):
    200                     the whole file: from the beginning, never appended
    206 bytes HAVE-x/TOTAL  the rest
    206 anything else       it is out of step with us: thrown away, tried again
    416 bytes */HAVE        nothing is missing
    416 anything else       what is here is of no use: thrown away, tried again
    408, 429, 5xx           tried again, after Retry-After where it says one
    any other               an error at once
"""

import asyncio
import hashlib
import os
import re
import shutil
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Self, TypeVar, TypeVarTuple
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from yarl import URL

from llm_router import __version__
from llm_router.errors import RouterError
from llm_router.gateway.probe import why

CONNECT_WITHIN = 30.0  # seconds; a packet that is lost on the way is sent again three times in these
MAX_REDIRECTS = 10  # RFC 9110, 15.4 knows no number; browsers take 20, releases need 2
FAR_BEHIND = 4 << 20  # bytes that may wait for the disk: 40 ms of a 1 Gbit/s network
BLOCK = 1 << 20  # bytes that are hashed at once
LONGEST_TEXT = 1_000_000  # bytes; a list of checksums has 200 for each file

Args = TypeVarTuple("Args")
T = TypeVar("T")


class DownloadFailed(RouterError):
    """Something could not be fetched; the message says what, and what to do."""

    code = "download_failed"


class Unreachable(DownloadFailed):
    """The network or the server gave way, also on further attempts: later it may be there again."""


class NotOffered(DownloadFailed):
    """The server answers, but not with this file."""


class WrongChecksum(DownloadFailed):
    """What came is not what was announced."""


class NoRoom(DownloadFailed):
    """The disk cannot take it."""


class _Broken(Exception):
    """An attempt failed in a way that another may not. `retry_after` in seconds."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Patience(msgspec.Struct, frozen=True):
    """How long to keep trying: `retries` after the first attempt, pauses of 1, 2, 4 … `max_backoff` seconds.

    `stall`: seconds without a byte after which a transfer counts as broken.
    """

    retries: int = 5
    max_backoff: float = 60.0
    stall: float = 60.0


class Text(msgspec.Struct, frozen=True):
    """A small file, and every URL on the way to it: the one asked for, then those redirected to."""

    body: str
    urls: list[str]


class Meter:
    """How far something is, and how fast: `done` of `total` bytes, total 0 where nobody knows.

    It may be told from one thread and asked from another. Times in seconds, on any one clock.
    """

    window = 10.0  # seconds that the rate is a mean of: follows a change, without jumping with each block
    step = 0.25  # seconds between two samples that are kept

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=int(self.window / self.step))

    def note(self, done: int, total: int, now: float) -> None:
        """So far it is now."""
        if done < self.done:  # begun again
            self._samples.clear()
        if not self._samples or now - self._samples[-1][0] >= self.step:
            self._samples.append((now, done))
        self.done, self.total = done, total

    def rate(self, now: float) -> float:
        """Bytes per second; 0 before there is anything to tell it from."""
        recent = [sample for sample in tuple(self._samples) if now - sample[0] <= self.window]
        if not recent or now <= recent[0][0]:
            return 0.0
        return (self.done - recent[0][1]) / (now - recent[0][0])

    def left(self, now: float) -> float:
        """Seconds until it is done, at this rate; 0 where that cannot be told."""
        rate = self.rate(now)
        return max(0, self.total - self.done) / rate if rate else 0.0


def _nobody(*_: object) -> None:
    """Where a caller does not want to be told."""


async def download(
    session: aiohttp.ClientSession,
    url: str,
    target: Path,
    *,
    sha256: str = "",
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
    progress: Callable[[int, int], None] = _nobody,
    waiting: Callable[[str, float], None] = _nobody,
) -> None:
    """Fetch `url` to `target`, whose directory is made where it is missing; one call at a time for one target.

    `sha256`: the file's, in hexadecimal; a file that has it already is not fetched again. Empty: nothing is checked.
    `progress` is told bytes so far and in all, or 0; `waiting`, before each pause, why an attempt failed and for how
    many seconds nothing happens now. Cancelled, it keeps what it has.

    Raises:
        Unreachable: every attempt failed.
        NotOffered: the server has no such file for us.
        WrongChecksum: the file is another than announced, and is not kept.
        NoRoom: the disk is full, or will be, or cannot be written.
    """
    try:
        if await in_thread(_is_there, target, sha256):
            return
        partial = await in_thread(Partial.open, target)
        try:
            await _patiently(patience, waiting, lambda: _attempt(session, url, partial, sha256, patience, progress))
            await in_thread(partial.finish)
        finally:
            await in_thread(partial.close)
    except OSError as error:
        raise NoRoom(f"{target} cannot be written: {error.strerror or error}") from error


async def fetch_text(
    session: aiohttp.ClientSession,
    url: str,
    *,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
    waiting: Callable[[str, float], None] = _nobody,
) -> Text:
    """Fetch a small text file.

    Raises:
        Unreachable, NotOffered: as `download`.
    """

    async def attempt() -> Text:
        with _network_errors(url):
            async with _opened(session, url, {}, patience.stall) as (response, urls):
                _judge(url, response.status, response.headers)
                body = await _read(response)
        return Text(body.decode(errors="replace"), urls)

    return await _patiently(patience, waiting, attempt)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for block in response.content.iter_any():
        body += block
        if len(body) > LONGEST_TEXT:
            raise NotOffered(f"{response.url} is longer than {LONGEST_TEXT} bytes, which is no list")
    return bytes(body)


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


async def _attempt(
    session: aiohttp.ClientSession,
    url: str,
    partial: "Partial",
    sha256: str,
    patience: Patience,
    progress: Callable[[int, int], None],
) -> None:
    """One request, from where the last one broke off; then the check."""
    headers = {"range": f"bytes={partial.size}-", "if-range": partial.tag} if partial.size else {}
    with _network_errors(url):
        async with _opened(session, url, headers, patience.stall) as (response, _):
            _judge(url, response.status, response.headers)
            place = _place(response.status, response.headers, partial.size, partial.tag)
            if place is None:
                await in_thread(partial.restart, "")
                raise _Broken(f"{url} answered with another part than was asked for")
            if response.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                await _receive(response, partial, place, progress)
    if place.total and partial.size != place.total:
        raise _Broken(f"{url} ended after {partial.size} of {place.total} bytes")
    await _check(url, partial, sha256)


async def _receive(
    response: aiohttp.ClientResponse, partial: "Partial", place: "Place", progress: Callable[[int, int], None]
) -> None:
    """The bytes of an answer to where they belong.

    What the HTTP client holds when a connection breaks is lost. So nothing is left there to wait for the disk: the
    first byte is taken before the file is made ready for it.
    """
    writer = _Writer(asyncio.create_task(in_thread(_make_ready, partial, place, _tag(response.headers))), partial)
    done = place.start
    try:
        async for block in response.content.iter_any():
            await writer.write(block)
            done += len(block)
            progress(done, place.total)
    finally:
        await writer.flush()


def _make_ready(partial: "Partial", place: "Place", tag: str) -> None:
    partial.continue_at(place.start, tag)
    free = shutil.disk_usage(partial.path.parent).free
    if place.total - place.start > free:
        need, left = _megabytes(place.total - place.start), _megabytes(free)
        raise NoRoom(f"{partial.target.name} needs {need} more, {partial.path.parent} has {left} left: make room there")


class _Writer:
    """Writes in a thread while more is received."""

    def __init__(self, writing: asyncio.Task[None], partial: "Partial") -> None:
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
        block = bytes(self._waiting)
        self._waiting.clear()
        self._writing = asyncio.create_task(in_thread(self._partial.append, block))


async def _check(url: str, partial: "Partial", sha256: str) -> None:
    found = partial.digest()
    if not sha256 or found == sha256.lower():
        return
    message = f"{url} has the SHA-256 checksum {found}, but {sha256.lower()} was announced; it was thrown away"
    in_pieces = partial.in_pieces
    await in_thread(partial.restart, "")
    if in_pieces:  # they may be of two files, or the disk lost some in a power cut: in one piece it may be right
        raise _Broken(message)
    raise WrongChecksum(message)


async def _patiently(
    patience: Patience, waiting: Callable[[str, float], None], attempt: Callable[[], Awaitable[T]]
) -> T:
    """`attempt`, again and again, as requirement G3 has it."""
    failures = 0
    while True:
        try:
            return await attempt()
        except _Broken as error:
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


# -- the file


class Partial:
    """The bytes that are there of a file, and the tag of the version they belong to. Everything here blocks.

    `in_pieces`: they came in more than one answer.
    """

    def __init__(self, target: Path, file: BinaryIO) -> None:
        """`file`: what is there, opened for appending."""
        self.target = target
        self.path = _partial(target)
        self.size = 0
        self.tag = ""
        self.in_pieces = False
        self._file = file
        self._hash = hashlib.sha256()

    @classmethod
    def open(cls, target: Path) -> Self:
        """Take up what an earlier call left, or begin."""
        target.parent.mkdir(parents=True, exist_ok=True)
        path = _partial(target)
        self = cls(target, path.open("ab"))
        self.tag = self._tag_file.read_text("utf-8") if self._tag_file.exists() else ""
        if not self.tag:  # nobody can tell what these bytes are of
            self.restart("")
        else:
            self.size = path.stat().st_size
            self._hash = _hash(path)
        return self

    def append(self, block: bytes) -> None:
        """The next bytes."""
        self._file.write(block)
        self.size += len(block)
        self._hash.update(block)

    def continue_at(self, start: int, tag: str) -> None:
        """What comes now belongs at `start`: behind what is there, or in place of it."""
        if start:
            self.in_pieces = True
        else:
            self.restart(tag)

    def restart(self, tag: str) -> None:
        """Throw away what is there; what comes now belongs to `tag`, or cannot be resumed if that is empty."""
        self._file.truncate(0)
        self._tag_file.write_text(tag, "utf-8")
        self.size, self.tag, self.in_pieces = 0, tag, False
        self._hash = hashlib.sha256()

    def digest(self) -> str:
        """The SHA-256 of all bytes, in hexadecimal."""
        return self._hash.hexdigest()

    def finish(self) -> None:
        """Give it its name; it must not outlive a power cut that its bytes do not."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        self.path.replace(self.target)
        self._tag_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave it to a later call."""
        self._file.close()

    @property
    def _tag_file(self) -> Path:
        return self.path.with_name(f"{self.path.name}.tag")


def _hash(path: Path) -> "hashlib._Hash":
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sha256.update(block)
    return sha256


def _is_there(target: Path, sha256: str) -> bool:
    return bool(sha256) and target.is_file() and _hash(target).hexdigest() == sha256.lower()


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def _megabytes(count: int) -> str:
    return f"{count / 1_000_000:,.0f} MB"


# -- what an answer means


class Place(msgspec.Struct, frozen=True):
    """Where the bytes of an answer belong: from `start` on, of `total`, 0 where nobody knows."""

    start: int
    total: int


def _place(status: int, headers: Mapping[str, str], have: int, tag: str) -> Place | None:
    """None: it is out of step with what is there."""
    if status == HTTPStatus.OK:
        return Place(0, int(headers.get("content-length", "0")))
    match = _RANGE.fullmatch(headers.get("content-range", ""))
    if match is None or match["total"] == "*" or _is_other(headers, tag):
        return None
    start = int(match["start"] or match["total"])
    return Place(start, int(match["total"])) if start == have else None


_RANGE = re.compile(r"bytes (?:\*|(?P<start>\d+)-\d+)/(?P<total>\d+|\*)")  # RFC 9110, 14.4


def _is_other(headers: Mapping[str, str], tag: str) -> bool:
    """A server that does not know If-Range sends a part of whatever file it has now."""
    return tag.startswith('"') and headers.get("etag", tag) != tag


def _tag(headers: Mapping[str, str]) -> str:
    """What If-Range may hold to name this version of the file: not a weak ETag (RFC 9110, 13.1.5)."""
    etag = headers.get("etag", "")
    return etag if etag.startswith('"') else headers.get("last-modified", "")


def _judge(url: str, status: int, headers: Mapping[str, str]) -> None:
    """Nothing, where the answer has bytes for us, or says that there are no more."""
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        return
    reason = f"{url} answered with status {status}"
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:
        raise _Broken(reason, _seconds(headers.get("retry-after", ""), time.time()))
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        reason = f"the proxy wants to know who asks for {url}: set HTTPS_PROXY=http://user:password@host:port"
    raise NotOffered(reason)


def _seconds(retry_after: str, now: float) -> float:
    """A Retry-After header, which is a number of seconds or a date (RFC 9110, 10.2.3); 0 where it is neither."""
    try:
        return float(retry_after) if retry_after.isdigit() else parsedate_to_datetime(retry_after).timestamp() - now
    except ValueError:
        return 0.0


# -- the network


@asynccontextmanager
async def _opened(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], stall: float
) -> AsyncIterator[tuple[aiohttp.ClientResponse, list[str]]]:
    """The answer to a GET, and every URL on the way: each redirect is followed through the proxy that it needs."""
    headers = {"user-agent": f"llm-router/{__version__}", "accept-encoding": "identity", **headers}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN, sock_read=stall)
    urls = [URL(url)]
    while len(urls) <= MAX_REDIRECTS:
        proxy = await in_thread(proxy_for, urls[-1])
        async with session.get(
            urls[-1], headers=headers, proxy=proxy, timeout=timeout, allow_redirects=False
        ) as response:
            if not (location := _redirect(response)):
                yield response, [str(u) for u in urls]
                return
        urls.append(_follow(urls[-1], location))
    raise NotOffered(f"{url} leads from one URL to the next without an end")


def _redirect(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("location", "") if response.status in (301, 302, 303, 307, 308) else ""


def _follow(url: URL, location: str) -> URL:
    target = url.join(URL(location, encoded=True))  # as it is: the signature in it covers its bytes
    if target.scheme not in ("https", url.scheme):
        raise NotOffered(f"{url} leads to {target.origin()}, which anybody on the way could change")
    return target


def proxy_for(url: URL) -> str | None:
    """The proxy for this URL, None for no proxy: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or the system's settings.

    Asking the system may block. Names in lower case count before those in capitals, as everywhere.

    Raises:
        NotOffered: it is a proxy of another kind.
    """
    host = url.host or ""
    if proxy_bypass(host) or proxy_bypass(f"{host}:{url.port}"):
        return None
    proxy = getproxies().get(url.scheme)
    if not proxy:
        return None
    if "://" not in proxy:
        return f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        raise NotOffered(
            f"{url.scheme.upper()}_PROXY is {URL(proxy).scheme}://…, but only HTTP proxies can be gone through"
        )
    return proxy


@contextmanager
def _network_errors(url: str) -> Iterator[None]:
    """What goes wrong on the way, as one of ours."""
    try:
        yield
    except TimeoutError as error:
        raise _Broken(f"{url}: nothing came in time") from error
    except aiohttp.ClientProxyConnectionError as error:
        raise _Broken(f"the proxy {error.host}:{error.port}, on the way to {url}: {why(error)}") from error
    except aiohttp.ClientHttpProxyError as error:
        _judge(url, error.status, error.headers or {})
        raise _Broken(f"the proxy for {url} answered with status {error.status}") from error
    except aiohttp.ClientConnectorCertificateError as error:
        advice = "if a proxy here has a certificate of its own, name its file in SSL_CERT_FILE"
        raise NotOffered(f"{url} cannot prove who it is: {error.certificate_error}; {advice}") from error
    except aiohttp.InvalidURL as error:
        raise NotOffered(f"{error.url} is not a URL that can be fetched") from error
    except aiohttp.ClientError as error:
        raise _Broken(f"{url}: {why(error)}") from error
