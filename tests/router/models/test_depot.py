"""Files on their way through the router: one download, whoever asks (requirement H6)."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.doubles.hub import Hub, Options

from llm_router.errors import NotFound, UpstreamFailed
from llm_router.models.allow import Allowlist
from llm_router.models.download import Patience, download
from llm_router.models.failures import OriginDenied, Unreachable
from llm_router.models.manifest import ModelFile
from llm_router.router.models.depot import Depot, Reader

SIXTEEN = 16 * 1024  # bytes; the hub sends as many at once, and stands still between two
CONTENT = random.Random(8).randbytes(3_000_000)  # noqa: S311 - bytes that tell one place of a file from another
REPO = "org/big"
FILE = "big.gguf"
NOW_AND_THEN = Patience(retries=1, max_backoff=0.0)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with Hub(tmp_path / "hub") as running:
        running.put(REPO, {FILE: CONTENT})
        yield running


def model_file(hub: Hub, *, sha256: str | None = None, size: int = len(CONTENT), name: str = FILE) -> ModelFile:
    known = hashlib.sha256(CONTENT).hexdigest() if sha256 is None else sha256
    return ModelFile(name, size, known, f"{hub.url}/{REPO}/resolve/main/{FILE}")


@asynccontextmanager
async def depot_of(
    hub: Hub, directory: Path, *, keep: bool = False, linger: float = 60.0, origins: list[str] | None = None
) -> AsyncIterator[Depot]:
    allow = Allowlist(hub.origins if origins is None else origins)
    async with aiohttp.ClientSession() as session:

        async def fetch(
            url: str, target: Path, *, sha256: str, size: int, progress: Callable[[int, int], None]
        ) -> None:
            await download(
                session,
                url,
                target,
                sha256=sha256,
                size=size,
                progress=progress,
                patience=NOW_AND_THEN,
                allow=allow,
            )

        depot = Depot(directory, fetch, keep=keep, linger=linger)
        depot.start()
        yield depot
        await depot.stop()


@pytest.fixture
async def depot(hub: Hub, tmp_path: Path) -> AsyncIterator[Depot]:
    async with depot_of(hub, tmp_path / "depot") as made:
        yield made


async def read(reader: Reader, start: int = 0, stop: int | None = None) -> bytes:
    async with reader:
        return b"".join([block async for block in reader.blocks(start, reader.size if stop is None else stop)])


async def read_so_far(reader: Reader, count: int) -> bytes:
    """The first bytes, and no more."""
    return await read(reader, 0, count)


def lying(directory: Path) -> list[str]:
    """What is there of files, without the beginning of their names."""
    return sorted(path.name.partition("-")[2] for path in directory.glob("*/*"))


def files_in(directory: Path, besides: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and not path.is_relative_to(besides)]


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.005)  # noqa: TID251 - a directory tells nobody that it changed


async def test_ten_readers_are_one_download(hub: Hub, depot: Depot) -> None:
    """They read the file while it grows, and all of them have all of it."""
    await hub.set(Options(hold=60 * SIXTEEN))
    readers = [asyncio.create_task(depot.open("m", model_file(hub))) for _ in range(10)]
    reading = [asyncio.create_task(read(await reader)) for reader in readers]
    await hub.held()
    await hub.release()
    assert await asyncio.gather(*reading) == [CONTENT] * 10
    count = (await hub.counts())[f"{REPO}/{FILE}"]
    assert (count.requests, count.bytes) == (1, len(CONTENT))


async def test_what_is_there_is_read_while_the_rest_is_not(hub: Hub, depot: Depot) -> None:
    """A node has its first bytes long before the router has the last."""
    await hub.set(Options(hold=120 * SIXTEEN, rate=4_000_000))
    reader = await depot.open("m", model_file(hub))
    await hub.held()
    assert await read_so_far(reader, 100_000) == CONTENT[:100_000]
    await hub.release()
    assert await read(reader) == CONTENT


async def test_a_part_is_a_part(hub: Hub, depot: Depot) -> None:
    """From the middle, of a file that grows and of one that is there."""
    for _ in range(2):
        reader = await depot.open("m", model_file(hub))
        assert await read(reader, 1_234_567, 2_345_678) == CONTENT[1_234_567:2_345_678]
    assert (await hub.counts())[f"{REPO}/{FILE}"].requests == 1


async def test_the_last_byte_comes_when_the_file_was_checked(hub: Hub, depot: Depot) -> None:
    """Whoever has all bytes has what was announced: a wrong checksum breaks the transfer off before its end."""
    wrong = model_file(hub, sha256="ab" * 32)
    await hub.set(Options(hold=183 * SIXTEEN))
    reader = await depot.open("m", wrong)
    await hub.held()
    last = asyncio.create_task(read(reader, len(CONTENT) - 1))
    await hub.release()
    with pytest.raises(NotFound, match="checksum"):
        await last


async def test_a_failure_reaches_every_reader(hub: Hub, depot: Depot) -> None:
    """And whoever asks again soon hears the same, without another download."""
    await hub.set(Options(hold=60 * SIXTEEN))
    readers = [await depot.open("m", model_file(hub, sha256="ab" * 32)) for _ in range(3)]
    reading = [asyncio.create_task(read(reader)) for reader in readers]
    await hub.release()
    ends = await asyncio.gather(*reading, return_exceptions=True)
    assert [type(end) for end in ends] == [NotFound] * 3
    with pytest.raises(NotFound, match="checksum"):
        await depot.open("m", model_file(hub, sha256="ab" * 32))
    assert (await hub.counts())[f"{REPO}/{FILE}"].requests == 1


async def test_an_origin_that_is_not_there_now_is_asked_again(hub: Hub, depot: Depot) -> None:
    """When it has been tried as often as may be, the next one who asks begins anew."""
    await hub.set(Options(fail=2))
    with pytest.raises(Unreachable, match="status 503"):
        await depot.open("m", model_file(hub))
    assert await read(await depot.open("m", model_file(hub))) == CONTENT


async def test_a_file_that_its_origin_does_not_have(hub: Hub, depot: Depot) -> None:
    """404, so that no node tries again."""
    missing = ModelFile("gone.gguf", 10, "", f"{hub.url}/{REPO}/resolve/main/gone.gguf")
    with pytest.raises(NotFound, match="404"):
        await depot.open("m", missing)


async def test_an_origin_that_is_not_allowed(hub: Hub, tmp_path: Path) -> None:
    """Requirement H3: it is named, and nothing is asked of it."""
    async with depot_of(hub, tmp_path / "depot", origins=[]) as depot:
        with pytest.raises(OriginDenied):
            await depot.open("m", model_file(hub))
    assert await hub.counts() == {}


async def test_a_cut_transfer_is_resumed_under_its_readers(hub: Hub, depot: Depot) -> None:
    """They notice nothing, and the origin sends each byte about once."""
    await hub.set(Options(cut=2_000_000))
    assert await read(await depot.open("m", model_file(hub))) == CONTENT
    assert (await hub.counts())[f"{REPO}/{FILE}"].bytes <= 1.1 * len(CONTENT)


async def test_who_read_a_file_that_begins_anew_is_cut_off(hub: Hub, depot: Depot) -> None:
    """Without a checksum, its bytes might be of two versions; the new one has another name."""
    await hub.set(Options(cut=2_500_000, ranges=False))
    reader = await depot.open("m", model_file(hub, sha256=""))
    with pytest.raises(UpstreamFailed, match="anew"):
        await read(reader)
    again = await depot.open("m", model_file(hub, sha256=""))
    assert again.tag != reader.tag
    assert await read(again) == CONTENT


async def test_a_version_has_a_name(hub: Hub, depot: Depot) -> None:
    """Its checksum, as an entity tag; without one, a word that is of this download."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert (await depot.open("m", model_file(hub))).tag == f'"{sha256}"'
    assert (await depot.open("m", model_file(hub, sha256=sha256.upper()))).tag == f'"{sha256}"'
    assert len((await depot.open("m", model_file(hub, sha256=""))).tag) > 10


async def test_a_size_that_nobody_announced_is_learned(hub: Hub, depot: Depot) -> None:
    """From the origin."""
    reader = await depot.open("m", model_file(hub, size=0))
    assert reader.size == len(CONTENT)
    assert await read(reader) == CONTENT


async def test_it_is_deleted_when_nobody_has_read_it_for_a_while(hub: Hub, tmp_path: Path) -> None:
    """But not while somebody does; later it is fetched anew."""
    place = tmp_path / "depot"
    async with depot_of(hub, place, linger=0.05) as depot:
        reader = await depot.open("m", model_file(hub))
        async with reader:
            blocks = reader.blocks(0, reader.size)
            got = await anext(blocks)
            await until(lambda: lying(place) == [FILE])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await until(lambda: not lying(place))
            got += b"".join([block async for block in blocks])
        assert got == CONTENT
        await until(lambda: not lying(place))
        assert await read(await depot.open("m", model_file(hub))) == CONTENT
    assert (await hub.counts())[f"{REPO}/{FILE}"].requests == 2


async def test_files_are_kept_where_that_is_wanted(hub: Hub, tmp_path: Path) -> None:
    """The next run of the router has them, and asks no origin (--keep-models)."""
    place = tmp_path / "depot"
    for _ in range(2):
        async with depot_of(hub, place, keep=True, linger=0.01) as depot:
            assert await read(await depot.open("org/m:q4", model_file(hub))) == CONTENT
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await until(lambda: not lying(place))
    assert (await hub.counts())[f"{REPO}/{FILE}"].requests == 1
    assert [path.name for path in place.iterdir()] == ["org+m=q4"]


async def test_what_an_earlier_run_left_goes_unless_somebody_comes(hub: Hub, tmp_path: Path) -> None:
    """Complete files; parts of some may be of use for a day."""
    place = tmp_path / "depot"
    async with depot_of(hub, place) as depot:
        await read(await depot.open("m", model_file(hub)))
    (place / "m" / "0-young.gguf.partial").write_bytes(b"part")
    assert lying(place) == [FILE, "young.gguf.partial"]
    async with depot_of(hub, place, linger=0.01):
        await until(lambda: lying(place) == ["young.gguf.partial"])


async def test_what_nobody_waits_for_is_not_fetched_any_more(hub: Hub, tmp_path: Path) -> None:
    """What is there of it stays, and is gone on from when somebody asks again."""
    place = tmp_path / "depot"
    await hub.set(Options(hold=120 * SIXTEEN))
    async with depot_of(hub, place, linger=0.05) as depot:
        async with await depot.open("m", model_file(hub)) as reader:
            await hub.held()
        with pytest.raises(UpstreamFailed, match="not fetched any more"):
            await anext(reader.blocks(reader.size - 1, reader.size))  # outside `async with`: nobody reads it
        await hub.set(Options())
        assert await read(await depot.open("m", model_file(hub))) == CONTENT
    assert (await hub.counts())[f"{REPO}/{FILE}"].bytes < 120 * SIXTEEN + len(CONTENT)


async def test_a_router_that_stops_cuts_readers_off_and_goes_on_from_there(hub: Hub, tmp_path: Path) -> None:
    """No reader is left waiting, and the next run fetches the rest."""
    place = tmp_path / "depot"
    await hub.set(Options(hold=120 * SIXTEEN))
    async with depot_of(hub, place) as depot:
        reading = asyncio.create_task(read(await depot.open("m", model_file(hub))))
        await hub.held()
    with pytest.raises(UpstreamFailed, match="not fetched any more"):
        await reading
    await hub.set(Options())
    async with depot_of(hub, place) as depot:
        assert await read(await depot.open("m", model_file(hub))) == CONTENT
    assert (await hub.counts())[f"{REPO}/{FILE}"].bytes < 120 * SIXTEEN + len(CONTENT)


NAMES = ["../../evil", "/etc/passwd", "a/../../b", "..", "", "con", "x" * 300, "nul\0l", "a\\..\\b", "été.gguf"]


async def test_no_name_leads_out_of_the_depot(hub: Hub, tmp_path: Path) -> None:
    """Requirement H7: what hubs call their files is not what they are called here."""
    place = tmp_path / "depot"
    async with depot_of(hub, place, keep=True) as depot:
        for name in NAMES:
            assert await read(await depot.open("m", model_file(hub, name=name))) == CONTENT
    assert [path.parent for path in files_in(tmp_path, besides=hub.directory)] == [place / "m"] * len(NAMES)
