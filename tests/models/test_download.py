"""The downloader: resumes, checks, waits, and takes the way that the machine's settings say."""

import asyncio
import contextlib
import hashlib
import random
import shutil
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import aiohttp
import pytest
from aiohttp import web
from tests.doubles.http_proxy import HttpProxy
from tests.doubles.release_server import Fault, ReleaseServer
from yarl import URL

from llm_router.models.allow import Allowlist
from llm_router.models.download import (
    MODEL_PATIENCE,
    Part,
    Patience,
    download,
    fetch_part,
    fetch_text,
    in_thread,
    pause,
)
from llm_router.models.failures import NoRoom, NotOffered, OriginDenied, Unreachable, WrongChecksum

CONTENT = random.Random(6).randbytes(300_000)  # noqa: S311 - any bytes do, the same each time
SHA256 = hashlib.sha256(CONTENT).hexdigest()
AT_ONCE = Patience(max_backoff=0)

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

pytestmark = pytest.mark.usefixtures("no_proxies")


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
    await download(session, url_of(server), target, waiting=lambda _, pause: paused.append(pause))
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


async def test_resumed_from_another_server(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """With a checksum, any server gives the rest, whatever it calls the version that it has (requirement H4)."""
    server.tags["model.bin"] = 'W/"weak"'
    server.faults.append(Fault("model.bin", "cut"))
    with pytest.raises(Unreachable):
        await download(session, url_of(server), target, sha256=SHA256, patience=Patience(retries=0))
    server.tags["model.bin"] = '"another"'
    await download(session, url_of(server), target, sha256=SHA256)
    assert content(target) == CONTENT
    assert [(seen.range, seen.if_range) for seen in server.asked("model.bin")] == [("", ""), ("bytes=120000-", "")]


async def test_whole_but_wrong(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """What an earlier call left may have gone bad, though it has every byte: it is fetched again (requirement H8)."""
    await cut_short(session, server, target)
    target.with_name("model.bin.partial").write_bytes(bytes(len(CONTENT)))
    await download(session, url_of(server), target, sha256=SHA256, patience=AT_ONCE)
    assert content(target) == CONTENT


# -- sizes that are known before


async def test_no_room_for_what_was_announced(
    session: aiohttp.ClientSession, server: ReleaseServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the size is known, a disk too small is told of before anything is asked for or written (requirement H4)."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=len(CONTENT) - 1))
    with pytest.raises(NoRoom, match=r"model\.bin needs .* more") as error:
        await download(session, url_of(server), target, size=len(CONTENT))
    assert (error.value.status, error.value.code) == (507, "no_room")
    assert server.seen == []
    assert not target.parent.exists()


async def test_room_for_the_rest(
    session: aiohttp.ClientSession, server: ReleaseServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there already needs no room."""
    await cut_short(session, server, target)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=180_000))
    await download(session, url_of(server), target, size=len(CONTENT))
    assert content(target) == CONTENT


async def test_another_size(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A file of another size than announced is not fetched; what is there of the right one may be of use elsewhere."""
    await cut_short(session, server, target)
    with pytest.raises(WrongChecksum, match=r"has 300000 bytes, but 299999 were announced") as error:
        await download(session, url_of(server), target, size=299_999)
    assert (error.value.status, error.value.code) == (502, "wrong_checksum")
    assert len(content(target.with_name("model.bin.partial"))) == 120_000


async def test_without_an_end(session: aiohttp.ClientSession, target: Path) -> None:
    """An answer that does not say how long it is, and goes on behind what was announced, is broken off."""

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(10_000))
        return response

    async with serving(flood) as url:
        with pytest.raises(WrongChecksum, match="100000 were announced"):
            await download(session, url, target, size=100_000)
    assert content(target.with_name("model.bin.partial")) == b""


async def test_shorter_than_announced(session: aiohttp.ClientSession, target: Path) -> None:
    """An answer that does not say how long it is, and ends too early, is not the file."""

    async def brief(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"brief")
        return response

    async with serving(brief) as url:
        with pytest.raises(WrongChecksum, match="has 5 bytes"):
            await download(session, url, target, size=100_000)
    assert files(target) == ["model.bin.partial", "model.bin.partial.tag"]


# -- where it may be fetched from


def only(*urls: str) -> Allowlist:
    """The servers of these URLs."""
    return Allowlist([f"{URL(url).origin()}/*" for url in urls], "LLM_NODE_MODEL_ORIGINS")


@pytest.mark.parametrize("ranges", [True, False])
async def test_part(session: aiohttp.ClientSession, server: ReleaseServer, *, ranges: bool) -> None:
    """Some bytes of a file come without the rest, whether the server knows Range or not."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers["range"])
        return web.FileResponse(server.directory / "v1.0.0" / "model.bin") if ranges else web.Response(body=CONTENT)

    async with serving(answer) as url:
        part = await fetch_part(session, url, 1000, 2000, allow=only(url))
        beyond = await fetch_part(session, url, 300_000, 10, allow=only(url))
        with pytest.raises(OriginDenied):
            await fetch_part(session, url, 0, 10, allow=only("https://huggingface.co"))
    assert part == (Part(CONTENT[1000:3000], 1000, 300_000) if ranges else Part(CONTENT[:3000], 0, 300_000))
    assert beyond == (Part(b"", 300_000, 300_000) if ranges else Part(CONTENT, 0, 300_000))
    assert asked == ["bytes=1000-2999", "bytes=300000-300009"]


async def test_denied(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """What is not on the list is not asked for, not tried again, and leaves no trace (requirement H3)."""
    for allow in (Allowlist(["huggingface.co/*"]), Allowlist([])):
        with pytest.raises(OriginDenied, match=r"127\.0\.0\.1.*model_origins"):
            await download(session, url_of(server), target, allow=allow)
        with pytest.raises(OriginDenied, match=r"127\.0\.0\.1.*model_origins"):
            await fetch_text(session, url_of(server, "list.txt"), allow=allow)
    assert server.seen == []
    assert not target.parent.exists()


async def test_allowed(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """What is on the list is fetched, through redirects and after a cut."""
    server.faults.append(Fault("model.bin", "cut"))
    latest = f"{server.url}/latest/download/model.bin"
    await download(session, latest, target, sha256=SHA256, patience=AT_ONCE, allow=only(server.url))
    assert content(target) == CONTENT
    text = await fetch_text(session, url_of(server, "list.txt"), allow=only(server.url))
    assert text.body == "one\ntwo\n"


async def test_redirect_to_where_it_may_not(
    session: aiohttp.ClientSession, server: ReleaseServer, target: Path
) -> None:
    """A redirect away from the list is refused, and both hosts are named; nothing is sent there (requirement H3)."""
    async with serving(redirecting(url_of(server))) as url:
        with pytest.raises(OriginDenied) as error:
            await download(session, url, target, allow=only(url))
        assert "127.0.0.1 leads to another place" in error.value.message
        assert f"127.0.0.1:{server.port}/*" in error.value.message
        assert server.seen == []
        await download(session, url, target, sha256=SHA256, allow=only(url, server.url))
    assert content(target) == CONTENT


async def test_name_that_leads_home(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """A name on the list that leads to this machine is refused unless the address is on it (requirement H3)."""
    by_name = url_of(server).replace("127.0.0.1", "localhost")
    with pytest.raises(OriginDenied, match=r"localhost: it has the address"):
        await download(session, by_name, target, allow=only(by_name))
    assert server.seen == []
    await download(session, by_name, target, sha256=SHA256, allow=only(by_name, server.url))
    assert content(target) == CONTENT


@pytest.mark.parametrize(
    "location",
    ["mailto:x", "http://", "http:x:y", "http://127.0.0.1:99999/", "http://[::1", "http://[::1]@", "ftp://x/y"],
)
async def test_redirect_to_nowhere(session: aiohttp.ClientSession, target: Path, location: str) -> None:
    """A redirect to what is no URL for us is an error of ours, whatever it is."""
    async with serving(redirecting(location)) as url:
        with pytest.raises((NotOffered, OriginDenied)):
            await download(session, url, target)
        with pytest.raises((NotOffered, OriginDenied)):
            await download(session, url, target, allow=only(url))


async def test_headers_stay_at_their_origin(session: aiohttp.ClientSession, target: Path) -> None:
    """A caller's headers are sent to the first origin; not to where it redirects, nor when that leads back."""
    seen: list[tuple[str, str]] = []
    hops: dict[str, str] = {}

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("authorization", "")))
        return web.Response(status=302, headers={"location": hops[request.path]}) if request.path in hops else DONE

    async with serving(answer) as url, serving(answer) as elsewhere:
        first, second = str(URL(url).origin()), str(URL(elsewhere).origin())
        hops |= {"/model.bin": f"{first}/here", "/here": f"{second}/there", "/there": f"{first}/back"}
        await download(session, url, target, headers={"authorization": "Bearer secret"})
    assert seen == [("/model.bin", "Bearer secret"), ("/here", "Bearer secret"), ("/there", ""), ("/back", "")]


async def test_secrets_are_not_told(session: aiohttp.ClientSession, server: ReleaseServer, target: Path) -> None:
    """Messages name where it went wrong, but neither the signature nor the password that a URL may hold."""
    server.faults.append(Fault("model.bin", "status", times=9))
    secret = url_of(server).replace("http://", "http://me:secret@") + "?Signature=secret"
    reasons: list[str] = []
    with pytest.raises(Unreachable) as error:
        await download(session, secret, target, patience=AT_ONCE, waiting=lambda reason, _: reasons.append(reason))
    with pytest.raises(WrongChecksum) as other:
        await download(session, url_of(server) + "?Signature=secret", target, sha256="0" * 64, patience=AT_ONCE)
    for message in (*reasons, error.value.message, other.value.message):
        assert url_of(server) in message
        assert "secret" not in message


@pytest.mark.parametrize("status", [401, 404])
async def test_what_the_server_said(session: aiohttp.ClientSession, target: Path, status: int) -> None:
    """An error tells a program which status the server had for us."""

    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(refuse) as url:
        with pytest.raises(NotOffered) as error:
            await download(session, url, target)
    assert error.value.answered == status
    assert (error.value.status, error.value.code) == (502, "download_failed")


def test_patience_with_models() -> None:
    """A model's transfer may stand still for five minutes (requirement H4)."""
    assert MODEL_PATIENCE.stall == 300


DONE = web.Response(body=b"content")


def redirecting(location: str) -> Handler:
    async def redirect(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"location": location})

    return redirect


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server that answers so; the URL of a model's file there."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/model.bin"
    finally:
        await runner.cleanup()


# -- proxies


async def test_proxy_resolves(
    session: aiohttp.ClientSession, server: ReleaseServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a proxy resolves is the proxy's to judge; the list still decides by name, and about redirects."""
    by_name = url_of(server).replace("127.0.0.1", "localhost")
    async with HttpProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("127.0.0.1", "localhost"))
        await download(session, by_name, target, sha256=SHA256, allow=only(by_name))
        assert proxy.seen == [f"GET {by_name}"]
        with pytest.raises(OriginDenied):
            await fetch_text(session, url_of(server, "list.txt"), allow=only(by_name))
        assert len(proxy.seen) == 1


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
