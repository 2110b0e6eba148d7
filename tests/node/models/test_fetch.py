"""Fetching what the router offers (requirements H1, H3, H4, H7, H8)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import aiohttp
import msgspec
import pytest
from tests.doubles.offering_router import OfferingRouter
from tests.node.conftest import Journal

from llm_router.config import NodeConfig
from llm_router.contract import Progress, parse_address
from llm_router.errors import ModelNotFound, UpstreamFailed
from llm_router.models import download
from llm_router.models.failures import DownloadFailed, NoRoom, WrongChecksum
from llm_router.node.identity import Identity
from llm_router.node.models.builtin import model_bytes
from llm_router.node.models.fetch import Fetcher
from llm_router.node.models.offers import Offers
from llm_router.node.models.store import Store

WHOLE = model_bytes()


class House:
    """A fetcher, its store, and what it told."""

    def __init__(
        self, router: OfferingRouter, config: NodeConfig, session: aiohttp.ClientSession, journal: Journal
    ) -> None:
        self.router = router
        self.store = Store(config.home / "node" / "models")
        self.news = asyncio.Event()
        self.offers = Offers(Identity.load(config.home / "identity.json"), session, journal.log, self.news.set)
        self.offers.connect(parse_address(router.url))
        self.changes = 0
        self.arrivals = 0
        self.fetcher = Fetcher(
            self.store, self.offers, config, session, journal.log, changed=self._changed, arrived=self._arrived
        )

    async def hear(self) -> None:
        """The heartbeat says that there are other offers."""
        self.news.clear()
        self.offers.hear(self.router.number)
        async with asyncio.timeout(10):
            await self.news.wait()
        self.fetcher.offered()

    async def stop(self) -> None:
        self.router.release.set()
        await self.fetcher.stop()
        await self.offers.stop()

    @property
    def stored(self) -> list[str]:
        return [model.id for model in self.store.scan().models]

    @property
    def files(self) -> list[str]:
        top = self.store.directory
        return sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())

    def _changed(self) -> None:
        self.changes += 1

    async def _arrived(self) -> None:
        self.arrivals += 1


@pytest.fixture
async def router() -> AsyncIterator[OfferingRouter]:
    async with OfferingRouter() as router:
        yield router


@pytest.fixture
async def house(
    router: OfferingRouter, config: NodeConfig, session: aiohttp.ClientSession, journal: Journal
) -> AsyncIterator[House]:
    house = House(router, config, session, journal)
    yield house
    await house.stop()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt for the last source, too; and quick signs to those who watch."""
    monkeypatch.setattr("llm_router.node.models.fetch.TELL_EVERY", 0.01)
    monkeypatch.setattr("llm_router.node.models.fetch.MODEL_PATIENCE", download.Patience(retries=0, stall=30.0))


async def test_it_lies_where_it_belongs(house: House) -> None:
    """A fetched model lies in the store under its name, `:` written as `=`; nothing else is left (H1, H7)."""
    house.router.offer("org/tiny:q8_0", WHOLE)
    await house.hear()
    await house.fetcher.get("org/tiny:q8_0")
    assert house.files == ["org/tiny=q8_0.gguf"]
    assert house.stored == ["org/tiny:q8_0"]
    assert house.arrivals == 1
    assert house.fetcher.progress() == []


async def test_the_router_knows_who_asks(house: House) -> None:
    """The list, the manifest and the files are asked for with the node's secret and its id."""
    house.offers._identity.keep(house.router.url, "s3cret")  # noqa: SLF001 - as the router's registration does
    house.router.offer("tiny", WHOLE)
    await house.hear()
    await house.fetcher.get("tiny")
    assert [asked["what"] for asked in house.router.asked] == ["list", "manifest", "file"]
    assert {asked["Authorization"] for asked in house.router.asked} == {"Bearer s3cret"}
    assert all(asked["node"] for asked in house.router.asked)


async def test_twenty_who_ask_share_one_download(house: House) -> None:
    """H4: concurrent requests for one model share one download."""
    house.router.offer("tiny", WHOLE)
    await house.hear()
    await asyncio.gather(*(house.fetcher.get("tiny") for _ in range(20)))
    assert house.router.sent["tiny"] == len(WHOLE)


async def test_one_at_a_time_in_the_order_of_asking(house: House) -> None:
    """H4: one download at a time; the next waits for its turn, and says so."""
    house.router.hold_at = 0
    for name in ("a", "b"):
        house.router.offer(name, WHOLE)
    await house.hear()
    tasks = [asyncio.create_task(house.fetcher.get(name)) for name in ("a", "b")]
    await house.router.held.wait()
    assert house.router.requests["file"] == 1
    first, second = house.fetcher.progress()
    assert (first.name, second.name, second.step) == ("a", "b", "waiting for its turn")
    assert second.total == len(WHOLE)
    house.router.release.set()
    await asyncio.gather(*tasks)
    assert house.stored == ["a", "b"]


async def test_begin_and_end_are_told_at_once(house: House, journal: Journal) -> None:
    """The heartbeat hears of both (G5), the log of every tenth in between (H4)."""
    house.router.offer("tiny", WHOLE)
    await house.hear()
    await house.fetcher.get("tiny")
    assert house.changes == 3  # it waits for its turn, it begins, it has ended
    percents = [entry["percent"] for entry in journal.find("model.fetching") if "percent" in entry]
    assert percents[-1] == 100
    assert all(percent % 10 == 0 for percent in percents)
    assert journal.find("model.fetched")


async def test_who_goes_away_does_not_end_it(house: House) -> None:
    """A request that is given up leaves the download to the next one."""
    house.router.hold_at = 8192
    house.router.offer("tiny", WHOLE)
    await house.hear()
    waiting = asyncio.create_task(house.fetcher.get("tiny"))
    await house.router.held.wait()
    waiting.cancel()
    await asyncio.wait({waiting})
    again = asyncio.create_task(house.fetcher.get("tiny"))
    house.router.release.set()
    await again
    assert house.router.requests["file"] == 1


async def test_somebody_who_watches(house: House) -> None:
    """`follow` says how far it is, and at the end that all is there."""
    house.router.offer("tiny", WHOLE)
    await house.hear()
    steps = [step async for step in house.fetcher.follow("tiny")]
    assert (steps[-1].done, steps[-1].total) == (len(WHOLE), len(WHOLE))
    assert {step.kind for step in steps} == {"model"}


async def test_the_last_who_watches_ends_it(house: House) -> None:
    """A pull that is broken off ends the download, if nobody else wants it; what is there is gone on with."""
    house.router.hold_at = 8192
    house.router.offer("tiny", WHOLE)
    await house.hear()
    async with aclosing(house.fetcher.follow("tiny")) as steps:
        await anext(steps)
        await house.router.held.wait()
    await asyncio.wait({*_tasks(house)})
    assert house.fetcher.progress() == []
    house.router.release.set()
    house.router.hold_at = -1
    await house.fetcher.get("tiny")
    assert house.stored == ["tiny"]


async def test_a_download_cut_by_a_restart_is_known_after_it(
    house: House, config: NodeConfig, session: aiohttp.ClientSession, journal: Journal
) -> None:
    """H4: the next start knows what was under way, and fetches the rest only."""
    house.router.hold_at = 49152
    house.router.offer("tiny", WHOLE)
    await house.hear()
    waiting = asyncio.create_task(house.fetcher.get("tiny"))
    async with aclosing(house.fetcher.follow("tiny")) as steps:
        have = await anext(step.done async for step in steps if step.done >= 32768)
    await house.fetcher.stop()
    with pytest.raises(UpstreamFailed, match="this node is stopping"):
        await waiting
    house.router.release.set()
    house.router.hold_at = -1
    after = House(house.router, config, session, journal)
    assert after.fetcher.interrupted == {"tiny"}
    await after.hear()
    await after.fetcher.get("tiny")
    assert after.fetcher.interrupted == frozenset()
    assert house.router.sent["tiny"] <= len(WHOLE) + 49152 - have
    assert after.stored == ["tiny"]
    await after.stop()
    assert House(house.router, config, session, journal).fetcher.interrupted == frozenset()


async def test_a_wrong_checksum(house: House) -> None:
    """H8: what is not what was announced is thrown away, and nothing is listed; everybody is told why, and who."""
    house.router.offer("tiny", WHOLE, sha256="0" * 64)
    await house.hear()
    told = await asyncio.gather(*(house.fetcher.get("tiny") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(error, WrongChecksum) and house.router.url in str(error) for error in told)
    assert house.stored == []
    assert not any(name.endswith(".gguf") for name in house.files)


async def test_too_little_room_is_said_before_anything_is_fetched(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is looked at first, for all files together."""
    house.router.offer("tiny", WHOLE, WHOLE)
    await house.hear()
    offer = house.router.offers["tiny"]
    files = [msgspec.structs.replace(file, size=1 << 60) for file in offer.manifest.files]
    house.router.offers["tiny"] = msgspec.structs.replace(
        offer, manifest=msgspec.structs.replace(offer.manifest, files=files)
    )
    monkeypatch.undo()
    with pytest.raises(NoRoom, match="make room"):
        await house.fetcher.get("tiny")
    assert house.router.requests["file"] == 0


async def test_nowhere(house: House) -> None:
    """H1: what nobody offers is said to be nowhere, at once."""
    async with asyncio.timeout(1):
        with pytest.raises(ModelNotFound):
            await house.fetcher.get("nowhere")


async def test_what_is_offered_no_more_is_given_up(house: House) -> None:
    """An operator who takes a model out of the catalogue ends its download."""
    house.router.hold_at = 0
    house.router.offer("tiny", WHOLE)
    await house.hear()
    waiting = asyncio.create_task(house.fetcher.get("tiny"))
    await house.router.held.wait()
    house.router.withdraw("tiny")
    await house.hear()
    with pytest.raises(UpstreamFailed, match="offers it no more"):
        await waiting


async def test_the_routers_reason_is_told(house: House) -> None:
    """A router that cannot have it either says why, and the node passes it on."""
    house.router.offer("tiny", WHOLE)
    house.router.refusal = (403, "cdn.example is not on the list of origins")
    await house.hear()
    with pytest.raises(DownloadFailed, match=r"tiny could not be fetched: .*cdn\.example is not on the list"):
        await house.fetcher.get("tiny")


async def test_peers_come_first_and_the_router_when_they_fail(house: House) -> None:
    """A node that has it is asked first; one that gives something else, or nothing, is passed over."""
    async with OfferingRouter() as peer, OfferingRouter() as liar:
        peer.offer("tiny", WHOLE)
        liar.offer("tiny", WHOLE[::-1])
        gone = "http://127.0.0.1:9"
        peers = (f"{gone}/x", *(f"{other.url}/v0/models/registry/tiny/files" for other in (liar, peer)))
        house.router.offer("tiny", WHOLE, peers=peers)
        await house.hear()
        await house.fetcher.get("tiny")
        assert peer.sent["tiny"] == len(WHOLE)
        assert house.router.requests["file"] == 0
        assert not any("Authorization" in asked for asked in (*peer.asked, *liar.asked))
        house.router.offer("other", WHOLE, peers=peers[:2])
        await house.hear()
        await house.fetcher.get("other")
        assert house.router.requests["file"] == 1


async def test_a_model_in_several_files(house: House) -> None:
    """Its parts get the names that llama.cpp knows; while one is missing, nothing is said of the others."""
    house.router.offer("tiny", WHOLE, WHOLE)
    await house.hear()
    await house.fetcher.get("tiny")
    assert house.files == ["tiny-00001-of-00002.gguf", "tiny-00002-of-00002.gguf"]
    (house.store.directory / "tiny-00002-of-00002.gguf").rename(
        house.store.directory / "tiny-00002-of-00002.gguf.partial"
    )
    assert house.store.scan().skipped == {}


async def test_safetensors_lie_in_a_directory(house: House) -> None:
    """H5's files lie in the model's directory, under their own names."""
    house.router.offer(
        "org/m", b'{"architectures": ["X"]}', b"x" * 100, names=("config.json", "m.safetensors"), kind="safetensors"
    )
    await house.hear()
    await house.fetcher.get("org/m")
    assert house.files == ["org/m/config.json", "org/m/m.safetensors"]
    assert house.stored == ["org/m"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x", "c:x", "", "a//b", ".hidden", "x\0y"])
async def test_names_of_files_stay_in_the_store(house: House, name: str, tmp_path: Path) -> None:
    """H7: a list of files that leads elsewhere is refused as a whole, and nothing is written."""
    before = _everything(tmp_path)
    offer = house.router.offer("m", b"x", names=("config.json",), kind="safetensors")
    files = [msgspec.structs.replace(file, name=name) for file in offer.manifest.files]
    house.router.offers["m"] = msgspec.structs.replace(
        offer, manifest=msgspec.structs.replace(offer.manifest, files=files)
    )
    await house.hear()
    with pytest.raises(ModelNotFound, match="makes no sense"):
        await house.fetcher.get("m")
    assert _everything(tmp_path) == before


async def test_a_chat_template_lies_beside_it(house: House) -> None:
    """The catalogue's chat template stands in for the file's own."""
    house.router.offer("tiny:1", WHOLE, chat_template="{{ messages }}")
    await house.hear()
    await house.fetcher.get("tiny:1")
    (model,) = house.store.scan().models
    template = house.store.directory / "tiny=1.jinja"
    assert model.template == template
    assert template.read_text("utf-8") == "{{ messages }}"


async def test_the_manifest_of_the_offer_will_do(house: House) -> None:
    """A manifest that cannot be had anew is as it was when the model was offered."""
    house.router.offer("tiny", WHOLE)
    await house.hear()
    house.router.offers.clear()  # without telling anybody
    await house.fetcher.get("tiny")
    assert house.stored == ["tiny"]


def test_progress_is_the_contracts() -> None:
    """What is told is what the router reads."""
    assert msgspec.json.decode(msgspec.json.encode(Progress("model", "m", "downloading")), type=Progress).name == "m"


def _tasks(house: House) -> list[asyncio.Task[None]]:
    return [job.task for job in house.fetcher._jobs.values()] or [asyncio.create_task(asyncio.sleep(0))]  # noqa: SLF001, TID251 - the end of one that was given up


def _everything(directory: Path) -> list[Path]:
    """All that lies there, but for the note of what is under way."""
    return sorted(path for path in directory.rglob("*") if path.name not in ("fetching.json", "node"))
