"""The downloader: resumes, checks, waits, and takes the way that the machine's settings say."""

import asyncio
import hashlib
import random
import shutil
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from tests.doubles.http_proxy import HttpProxy
from tests.doubles.release_server import Fault, ReleaseServer
from yarl import URL

from llm_router.models.download import (
    Meter,
    NoRoom,
    NotOffered,
    Patience,
    Unreachable,
    WrongChecksum,
    _place,
    _seconds,
    download,
    fetch_text,
    in_thread,
    pause,
    proxy_for,
)

CONTENT = random.Random(6).randbytes(300_000)  # noqa: S311 - any bytes do, the same each time
SHA256 = hashlib.sha256(CONTENT).hexdigest()
AT_ONCE = Patience(max_backoff=0)
PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ReleaseServer]:
    release = tmp_path / "releases" / "v1.0.0"
    release.mkdir(parents=True)
    (release / "model.bin").write_bytes(CONTENT)
    (release / "list.txt").write_text("one\ntwo\n")
    async with ReleaseServer(tmp_path / "releases") as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "model.bin"


def url_of(server: ReleaseServer, file: str = "model.bin") -> str:
    return f"{server.url}/download/v1.0.0/{file}"


def content(path: Path) -> bytes:
    return path.read_bytes()


def files(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.glob("*"))


async def cut_short(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A download that ends at its first attempt, after 40 % of it."""
    server.faults.append(Fault("model.bin", "cut"))
    with pytest.raises(Unreachable):
        await download(session, url_of(server), target, patience=Patience(retries=0))


async def test_a_file(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A file is fetched whole, told of as it comes, and nothing else is left beside it."""
    told: list[tuple[int, int]] = []
    await download(session, url_of(server), target, sha256=SHA256, progress=lambda *now: told.append(now))
    assert content(target) == CONTENT
    assert files(target) == ["model.bin"]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)


async def test_resumed_after_cuts(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A connection cut at 40 % three times is resumed three times: one file, and the right one (requirement G3)."""
    server.faults.append(Fault("model.bin", "cut", times=3))
    await download(session, url_of(server), target, sha256=SHA256, patience=AT_ONCE)
    assert content(target) == CONTENT
    assert files(target) == ["model.bin"]
    starts = [int(seen.range.removeprefix("bytes=").removesuffix("-") or 0) for seen in server.asked("model.bin")]
    assert starts == [0, 120_000, 192_000, 235_200]


async def test_resumed_by_the_next_call(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """What an earlier call left, of this process or the one before, is not fetched again (requirement H4)."""
    await cut_short(session, server, target)
    assert files(target) == ["model.bin.partial", "model.bin.partial.tag"]
    await download(session, url_of(server), target, sha256=SHA256)
    assert content(target) == CONTENT
    assert server.asked("model.bin")[-1].range == "bytes=120000-"


async def test_server_without_ranges(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A server that does not know Range sends the whole file, and it is not appended to the part."""
    server.ranges = False
    server.faults.append(Fault("model.bin", "cut"))
    await download(session, url_of(server), target, patience=AT_ONCE)
    assert content(target) == CONTENT


@pytest.mark.parametrize("if_range", [True, False])
async def test_file_changed_meanwhile(
    session: aiohttp.ClientSession, server: ReleaseServer, target: Path, *, if_range: bool
) -> None:
    """Parts of two versions are never put together, whether the server knows If-Range or not."""
    await cut_short(session, server, target)
    other = CONTENT[::-1]
    (server.directory / "v1.0.0" / "model.bin").write_bytes(other)
    server.if_range = if_range
    await download(session, url_of(server), target, patience=AT_ONCE)
    assert content(target) == other


async def test_part_without_tag(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A part of which nobody can tell what it belongs to is thrown away: a weak ETag does not tell."""
    server.tags["model.bin"] = 'W/"weak"'
    await cut_short(session, server, target)
    await download(session, url_of(server), target)
    assert content(target) == CONTENT
    assert server.asked("model.bin")[-1].range == ""


async def test_nothing_missing_any_more(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A part that turns out to be all of it (416) is the file."""
    await cut_short(session, server, target)
    target.with_name("model.bin.partial").write_bytes(CONTENT)
    await download(session, url_of(server), target, sha256=SHA256)
    assert content(target) == CONTENT


async def test_part_longer_than_the_file(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A part with more bytes than there are (416) is thrown away."""
    await cut_short(session, server, target)
    target.with_name("model.bin.partial").write_bytes(CONTENT + b"more")
    await download(session, url_of(server), target, patience=AT_ONCE)
    assert content(target) == CONTENT


async def test_part_that_the_disk_lost(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A part that went bad on the disk is found by its checksum, and the file is fetched anew."""
    await cut_short(session, server, target)
    target.with_name("model.bin.partial").write_bytes(bytes(120_000))
    await download(session, url_of(server), target, sha256=SHA256, patience=AT_ONCE)
    assert content(target) == CONTENT
    assert [seen.range for seen in server.asked("model.bin")] == ["", "bytes=120000-", ""]


async def test_wrong_checksum(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """Another file than announced is not kept, not asked for twice, and both checksums are named (requirement G2)."""
    announced = "0" * 64
    with pytest.raises(WrongChecksum) as error:
        await download(session, url_of(server), target, sha256=announced)
    assert announced in error.value.message
    assert SHA256 in error.value.message
    assert files(target) == ["model.bin.partial", "model.bin.partial.tag"]
    assert content(target.with_name("model.bin.partial")) == b""
    assert len(server.asked("model.bin")) == 1


async def test_right_file_there(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A file that is there and has the checksum is not fetched again; one that has another is."""
    await download(session, url_of(server), target, sha256=SHA256)
    await download(session, url_of(server), target, sha256=SHA256.upper())
    assert len(server.asked("model.bin")) == 1
    target.with_name("other").write_bytes(b"other")
    target.with_name("other").rename(target)
    await download(session, url_of(server), target, sha256=SHA256)
    assert content(target) == CONTENT


@pytest.mark.slow
async def test_pauses(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """503 twice: asked again after 1 s, and after 2 s more (requirement G3)."""
    server.faults.append(Fault("model.bin", "status", times=2))
    paused: list[float] = []
    await download(session, url_of(server), target, waiting=lambda _, seconds: paused.append(seconds))
    first, second, third = (seen.at for seen in server.asked("model.bin"))
    assert paused == [1, 2]
    assert 0.9 < second - first < 1.9
    assert 1.9 < third - second < 3.9


async def test_attempts_end(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """After five more attempts it is an error that says what was wrong (requirement G3)."""
    server.faults.append(Fault("model.bin", "status", times=99, status=502))
    reasons: list[str] = []
    with pytest.raises(Unreachable, match="status 502"):
        await download(
            session, url_of(server), target, patience=AT_ONCE, waiting=lambda reason, _: reasons.append(reason)
        )
    assert len(server.asked("model.bin")) == 6
    assert len(reasons) == 5


def test_pause_lengths() -> None:
    """1, 2, 4 … seconds and never over the longest, whatever the server asks for (requirement G3)."""
    assert [pause(failures, 0, 60) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pause(1, 30, 60) == 30
    assert pause(1, 3600, 60) == 60
    assert pause(10_000, 0, 60) == 60


def test_retry_after() -> None:
    """Retry-After is read as seconds and as a date (RFC 9110, 10.2.3); what it is not counts as none."""
    assert _seconds("7", 0) == 7
    assert _seconds("Thu, 01 Jan 1970 00:01:00 GMT", 50) == 10
    assert _seconds("soon", 0) == _seconds("", 0) == 0


async def test_too_many_requests(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A server that wants a longer pause gets it."""
    server.faults.append(Fault("model.bin", "status", status=429, retry_after="1"))
    paused: list[float] = []
    patience = Patience(max_backoff=0.5)
    await download(session, url_of(server), target, patience=patience, waiting=lambda _, s: paused.append(s))
    assert paused == [0.5]


async def test_no_such_file(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A file that the server does not have is an error at once."""
    with pytest.raises(NotOffered, match="status 404"):
        await download(session, url_of(server, "other.bin"), target)
    assert len(server.asked("other.bin")) == 1


async def test_stalled(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A transfer without a byte for the time given counts as broken, and is resumed."""
    server.faults.append(Fault("model.bin", "stall"))
    await download(session, url_of(server), target, patience=Patience(max_backoff=0, stall=0.5))
    assert content(target) == CONTENT
    assert server.asked("model.bin")[-1].range == "bytes=120000-"


async def test_nobody_there(session: aiohttp.ClientSession, target: Path) -> None:
    """Without a network the error names the reason, and what to look at."""
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9/model\.bin: Connection refused .* proxy"):
        await download(session, "http://127.0.0.1:9/model.bin", target, patience=Patience(retries=0))


async def test_cancelled(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A download that is cancelled keeps what it has, for the next one."""
    server.faults.append(Fault("model.bin", "stall"))
    come = asyncio.Event()
    task = asyncio.create_task(download(session, url_of(server), target, progress=lambda *_: come.set()))
    await come.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert len(content(target.with_name("model.bin.partial"))) > 0
    await download(session, url_of(server), target, sha256=SHA256)
    assert content(target) == CONTENT


async def test_cancelled_work_in_a_thread() -> None:
    """Whoever is cancelled while a thread works is not gone before the thread is, which is asked to end early."""
    begun, asked, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        asked.wait(30)
        ended.set()

    task = asyncio.create_task(in_thread(work, stop=asked.set))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert ended.is_set()


async def test_no_room(
    session: aiohttp.ClientSession, server: ReleaseServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that cannot take the file is told of before it is full."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(NoRoom, match=r"model.bin needs 0 MB more, .* has 0 MB left"):
        await download(session, url_of(server), target)


async def test_unwritable(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A directory that cannot be written is an error that names the file."""
    target.parent.write_bytes(b"a file where a directory should be")
    with pytest.raises(NoRoom, match=r"model\.bin cannot be written"):
        await download(session, url_of(server), target)


async def test_text(session: aiohttp.ClientSession, server: ReleaseServer) -> None:
    """A small text comes with the URLs that led to it, also after a failure."""
    server.faults.append(Fault("list.txt", "cut"))
    asked = f"{server.url}/latest/download/list.txt"
    text = await fetch_text(session, asked, patience=AT_ONCE)
    assert text.body == "one\ntwo\n"
    assert text.urls == [asked, url_of(server, "list.txt")]


@pytest.mark.parametrize(
    ("status", "content_range", "start"),
    [
        (200, "", 0),
        (206, "bytes 100-199/200", 100),
        (206, "bytes 50-199/200", None),
        (206, "bytes 100-199/*", None),
        (206, "", None),
        (416, "bytes */100", 100),
        (416, "bytes */90", None),
        (416, "", None),
    ],
)
def test_what_an_answer_means(status: int, content_range: str, start: int | None) -> None:
    """Bytes are appended only where they continue the hundred that are there (RFC 9110, 14.4)."""
    place = _place(status, {"content-range": content_range}, 100, '"tag"')
    assert (place.start if place else None) == start


# -- proxies


async def test_through_the_proxy(
    session: aiohttp.ClientSession, server: ReleaseServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY is gone through, on every request of a download that is resumed (requirement G4)."""
    server.faults.append(Fault("model.bin", "cut"))
    async with HttpProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        await download(session, url_of(server), target, sha256=SHA256, patience=AT_ONCE)
        assert proxy.seen == [f"GET {url_of(server)}"] * 2


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
async def test_past_the_proxy(
    session: aiohttp.ClientSession, server: ReleaseServer, target: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Hosts in NO_PROXY are asked directly (requirement G4)."""
    async with HttpProxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv(name, "example.com,127.0.0.1")
        await download(session, url_of(server), target)
        assert proxy.seen == []
    assert len(server.asked("model.bin")) == 1


async def test_proxy_that_wants_a_password(
    session: aiohttp.ClientSession, server: ReleaseServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy gets user and password from its URL; without them the error says where they go (requirement G4)."""
    async with HttpProxy(login="me:secret") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("me:secret@", ""))
        with pytest.raises(NotOffered, match="user:password"):
            await download(session, url_of(server), target)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        await download(session, url_of(server), target)
    assert content(target) == CONTENT


async def test_proxy_that_is_none(
    session: aiohttp.ClientSession, server: ReleaseServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that does not answer, or speaks something else, is named in the error, and not gone around."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"the proxy 127\.0\.0\.1:9, on the way to .*: Connection refused"):
        await download(session, url_of(server), target, patience=Patience(retries=0))
    monkeypatch.setenv("HTTP_PROXY", "socks5://me:secret@127.0.0.1:9")
    with pytest.raises(NotOffered, match="HTTP_PROXY is socks5://…, but only HTTP proxies"):
        await download(session, url_of(server), target)
    assert server.seen == []


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")
async def test_https_through_the_proxy(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY is asked for a tunnel, and sees nothing of what goes through it (requirement G4)."""
    certificate = await asyncio.to_thread(make_certificate, tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=certificate))
    release = tmp_path / "releases" / "v1.0.0"
    release.mkdir(parents=True)
    (release / "model.bin").write_bytes(CONTENT)
    async with (
        ReleaseServer(tmp_path / "releases", tls=tls) as server,
        HttpProxy() as proxy,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # for other URLs
        await download(session, url_of(server), target, sha256=SHA256)
        assert proxy.seen == [f"CONNECT 127.0.0.1:{server.port}"]


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")
async def test_unknown_certificate(tmp_path: Path, session: aiohttp.ClientSession, target: Path) -> None:
    """A server that cannot prove who it is gets no second chance, and the error says what may help."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(await asyncio.to_thread(make_certificate, tmp_path))
    async with ReleaseServer(tmp_path, tls=tls) as server:
        with pytest.raises(NotOffered, match="SSL_CERT_FILE"):
            await download(session, url_of(server), target)


def make_certificate(directory: Path) -> Path:
    """Key and certificate of 127.0.0.1, signed by itself, in one file."""
    pem = directory / "server.pem"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(pem)]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    certificate = directory / "certificate.pem"
    command = ["openssl", "req", "-x509", *key, *name, "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    pem.write_text(pem.read_text() + certificate.read_text())
    return pem


def test_which_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scheme has its own proxy; one written without http:// is one with it; ports in NO_PROXY count."""
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", ".internal,other.example:8080")
    assert proxy_for(URL("http://example.com/")) == "http://proxy.example:3128"
    assert proxy_for(URL("https://example.com/")) is None
    assert proxy_for(URL("http://mirror.internal/")) is None
    assert proxy_for(URL("http://other.example:8080/")) is None
    assert proxy_for(URL("http://other.example/")) == "http://proxy.example:3128"


# -- how fast


def test_rate_and_time_left() -> None:
    """The rate is that of the last seconds, and says when it will be done (requirement G5)."""
    meter = Meter()
    for second in range(21):
        meter.note(
            done=second * 1_000_000 if second <= 10 else 10_000_000 + (second - 10) * 3_000_000,
            total=100_000_000,
            now=second,
        )
    assert meter.rate(20) == 3_000_000
    assert meter.left(20) == 20
    assert meter.rate(25) < 3_000_000  # nothing came since
    assert meter.rate(60) == 0


def test_rate_begun_again() -> None:
    """What is begun again has a rate of its own; before there are two moments there is none."""
    meter = Meter()
    assert meter.rate(0) == 0
    meter.note(5_000_000, 0, now=0)
    meter.note(0, 0, now=1)
    meter.note(1_000, 0, now=2)
    assert meter.rate(2) == 1_000
    assert meter.left(2) == 0
