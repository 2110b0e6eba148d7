"""The runtime `llamacpp` with models that the router offers, and with shared ones (requirements H1, H2, C1)."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from tests.doubles.offering_router import OfferingRouter
from tests.models import ggufs
from tests.node.conftest import Journal

from llm_router.config import NodeConfig
from llm_router.contract import Address, parse_address
from llm_router.core.ask import Ask
from llm_router.core.node import Lease
from llm_router.core.registry import Registry
from llm_router.errors import UpstreamFailed
from llm_router.models.download import Patience
from llm_router.node.hardware import Hardware
from llm_router.node.identity import Identity
from llm_router.node.models.builtin import CHATML, NAME, SENTENCE, model_bytes
from llm_router.node.models.offers import Offers
from llm_router.node.runtimes.all import make_runtimes

WHOLE = model_bytes()
TINY = "llamacpp/tiny"


class House:
    """A node's runtimes, and a router that offers it models."""

    def __init__(
        self, router: OfferingRouter, config: NodeConfig, session: aiohttp.ClientSession, journal: Journal
    ) -> None:
        self.router = router
        self.session = session
        self.journal = journal
        self.registry = Registry()
        self.changed = asyncio.Event()
        self.models = config.home / "node" / "models"
        identity = Identity.load(config.home / "identity.json")
        self.offers = Offers(identity, session, journal.log, changed=self._offered)
        self.offers.connect(parse_address(router.url))
        self.runtimes = make_runtimes(
            self.registry,
            config,
            session,
            journal.log,
            hardware=Hardware(),
            offers=self.offers,
            changed=self.changed.set,
            restarted=lambda: None,
        )

    def _offered(self) -> None:
        self.runtimes.offered()
        self.changed.set()

    async def start(self) -> None:
        await self.runtimes.start()

    async def stop(self) -> None:
        self.router.release.set()
        await self.offers.stop()
        await self.runtimes.stop()

    async def hear(self) -> None:
        """A heartbeat's answer says that there are other offers."""
        self.offers.hear(self.router.number)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until it is so, which is told."""
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def lists(self, model: str) -> None:
        await self.until(lambda: model in self.registry)

    def is_stored(self, model: str) -> bool:
        return self.runtimes.describe(model).stored is True

    async def ask(self, model: str) -> str:
        """As the gateway does."""
        return await self.ask_at(await self.runtimes.wake(f"llamacpp/{model}"), model)

    async def ask_at(self, address: Address, model: str) -> str:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        async with self.session.post(f"{address.url}/v1/chat/completions", json=body) as response:
            answer = await response.json()
        return str(answer["choices"][0]["message"]["content"])

    async def prompt_tokens(self, model: str) -> int:
        address = await self.runtimes.wake(f"llamacpp/{model}")
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        async with self.session.post(f"{address.url}/v1/chat/completions", json=body) as response:
            return int((await response.json())["usage"]["prompt_tokens"])

    def begin(self, upstream_id: str) -> Lease:
        """A request is in flight there."""
        upstream = self.registry.nodes[upstream_id]
        lease = Lease(upstream, Ask(upstream.name, 0.0), 0.0)
        upstream.leases.add(lease)
        return lease

    def end(self, lease: Lease) -> None:
        """It is over."""
        lease.node.leases.discard(lease)
        self.runtimes.served(lease.node.id)


Furnish = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
async def router() -> AsyncIterator[OfferingRouter]:
    async with OfferingRouter() as router:
        yield router


@pytest.fixture
def furnish(router: OfferingRouter, config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> Furnish:
    """A house with settings of its own."""

    @asynccontextmanager
    async def furnished(**settings: object) -> AsyncIterator[House]:
        settings = {"runtime": ["llamacpp"], "memory": 2_000_000_000, **settings}
        house = House(router, msgspec.structs.replace(config, **settings), session, journal)
        try:
            yield house
        finally:
            await house.stop()

    return furnished


@pytest.fixture
async def house(furnish: Furnish) -> AsyncIterator[House]:
    async with furnish() as house:
        await house.start()
        yield house


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    directory = tmp_path / "shared"
    directory.mkdir()
    return directory


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_router.node.models.fetch.MODEL_PATIENCE", Patience(retries=0, stall=30.0))


# -- offers


async def test_an_offer_is_listed_as_not_stored(house: House) -> None:
    """C1: what the catalogue offers and this machine can run is listed; that it would be fetched first is said."""
    house.router.offer("tiny", WHOLE)
    await house.hear()
    await house.lists("tiny")
    entry = house.runtimes.describe("tiny")
    assert (entry.stored, entry.size) == (False, len(WHOLE))
    assert house.runtimes.find("tiny") is None
    assert house.registry.nodes[TINY].absent == {"tiny"}
    assert house.router.requests["file"] == 0


async def test_a_request_fetches_and_is_answered(house: House) -> None:
    """H1: the first request fetches the model, loads it at once and is answered; then it is stored."""
    offer = house.router.offer("tiny", WHOLE)
    await house.hear()
    await house.lists("tiny")
    assert await house.ask("tiny") == SENTENCE
    entry = house.runtimes.describe("tiny")
    assert (entry.stored, entry.digest) == (True, offer.manifest.files[0].sha256)
    assert not house.registry.nodes[TINY].absent
    assert (house.models / "tiny.gguf").exists()
    assert house.registry.nodes[TINY].address is not None


async def test_twenty_requests_are_one_download(house: House) -> None:
    """H4: all who ask meanwhile wait for the same."""
    house.router.offer("tiny", WHOLE)
    await house.hear()
    await house.lists("tiny")
    addresses = await asyncio.gather(*(house.runtimes.wake(TINY) for _ in range(20)))
    assert len(set(addresses)) == 1
    assert house.router.sent["tiny"] == len(WHOLE)


async def test_how_far_it_is_can_be_asked(house: House) -> None:
    """G5: the heartbeat carries it, and the node's own gateway knows whom everybody waits for."""
    house.router.hold_at = 8192
    house.router.offer("tiny", WHOLE)
    await house.hear()
    await house.lists("tiny")
    waiting = asyncio.create_task(house.runtimes.wake(TINY))
    await house.router.held.wait()
    await house.until(lambda: bool(house.runtimes.progress()))
    (progress,) = house.runtimes.progress()
    assert (progress.kind, progress.name, progress.total) == ("model", "tiny", len(WHOLE))
    assert house.registry.fetcher("tiny") is house.registry.nodes[TINY]
    house.router.release.set()
    await waiting
    assert house.runtimes.progress() == []
    assert house.registry.fetcher("tiny") is None


async def test_a_download_that_fails_is_an_error_that_says_why(house: House) -> None:
    """H8: a wrong checksum is told to who asked, nothing is listed as stored, and the next request tries again."""
    house.router.offer("tiny", WHOLE, sha256="0" * 64)
    await house.hear()
    await house.lists("tiny")
    with pytest.raises(UpstreamFailed, match="checksum"):
        await house.runtimes.wake(TINY)
    assert not house.is_stored("tiny")
    assert house.registry.fetcher("tiny") is None
    house.router.offer("tiny", WHOLE)
    await house.hear()
    await house.until(lambda: house.offers.current["tiny"] == house.router.offers["tiny"])
    assert await house.ask("tiny") == SENTENCE


async def test_what_was_fetched_and_is_no_model(house: House) -> None:
    """Who asked is told what is wrong with the file."""
    house.router.offer("tiny", WHOLE[:5000])
    await house.hear()
    await house.lists("tiny")
    with pytest.raises(
        UpstreamFailed, match=r"tiny was fetched and cannot run here: it ends in the middle of its header"
    ):
        await house.runtimes.wake(TINY)


async def test_an_offer_that_this_machine_cannot_run(house: House) -> None:
    """C1, C2: too large, of an unknown architecture, for another runtime or format: not listed."""
    house.router.offer("tiny", WHOLE)
    house.router.offer("unknown", ggufs.header(ggufs.LLAMA | {"general.architecture": "brandnew"}) + bytes(4096))
    changes: dict[str, dict[str, object]] = {
        "large": {"files": [msgspec.structs.replace(house.router.offers["tiny"].manifest.files[0], size=1 << 40)]},
        "others": {"runtimes": ["vllm"]},
        "format": {"format": "safetensors"},
    }
    for name, change in changes.items():
        offer = house.router.offer(name, WHOLE)
        house.router.offers[name] = msgspec.structs.replace(
            offer, manifest=msgspec.structs.replace(offer.manifest, **change)
        )
    await house.hear()
    await house.lists("tiny")
    assert sorted(house.registry.available()) == [NAME, "tiny"]


async def test_an_offer_that_is_withdrawn(house: House) -> None:
    """It leaves the list; a model of it that is stored stays."""
    house.router.offer("tiny", WHOLE)
    house.router.offer("other", WHOLE)
    await house.hear()
    await house.lists("other")
    await house.runtimes.wake(TINY)
    house.router.withdraw("tiny")
    house.router.withdraw("other")
    await house.hear()
    await house.until(lambda: "other" not in house.registry)
    assert await house.ask("tiny") == SENTENCE


async def test_wanted_models_come_by_themselves(house: House) -> None:
    """The router's placement is followed without a request; `preload` has it in memory, too."""
    house.router.offer("tiny", WHOLE, wanted=True)
    house.router.offer("other", WHOLE, preload=True)
    house.router.offer("idle", WHOLE)
    await house.hear()
    await house.until(lambda: house.is_stored("tiny") and "other" in house.runtimes.loaded())
    assert sorted(house.runtimes.loaded()) == [NAME, "other"]
    assert house.router.sent["idle"] == 0


async def test_what_a_restart_cut_off_is_gone_on_with(furnish: Furnish, router: OfferingRouter) -> None:
    """H4: as soon as the model is offered again, without a request."""
    router.hold_at = 49152
    router.offer("tiny", WHOLE)
    async with furnish() as house:
        await house.start()
        await house.hear()
        await house.lists("tiny")
        waiting = asyncio.create_task(house.runtimes.wake(TINY))
        await router.held.wait()
        await house.runtimes.fetcher.stop()
        with pytest.raises(UpstreamFailed, match="stopping"):
            await waiting
    router.hold_at = -1
    async with furnish() as house:
        await house.start()
        await house.hear()
        await house.until(lambda: house.is_stored("tiny"))


async def test_a_chat_template_of_the_catalogue(house: House) -> None:
    """It is used instead of the file's own."""
    house.router.offer("tiny", WHOLE, chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}")
    await house.hear()
    await house.lists("tiny")
    assert await house.prompt_tokens("tiny") == len("hi") + 1  # one token that begins every text
    assert await house.prompt_tokens(NAME) > len("hi") + len("user\nassistant\n")


async def test_a_model_that_is_deleted_is_offered_again(house: House) -> None:
    """What the store lost can be fetched again."""
    house.router.offer("tiny", WHOLE)
    await house.hear()
    await house.lists("tiny")
    await house.runtimes.wake(TINY)
    house.runtimes.store.delete("tiny")
    await house.runtimes.rescan()
    assert not house.is_stored("tiny")
    assert house.runtimes.loaded() == [NAME]
    assert await house.ask("tiny") == SENTENCE


# -- the shared directory


async def test_a_shared_model_is_used_in_place(furnish: Furnish, shared: Path) -> None:
    """H1: it answers, and nothing of it comes into the store."""
    (shared / "team.gguf").write_bytes(WHOLE)
    async with furnish(shared_models_dir=str(shared)) as house:
        await house.start()
        assert await house.ask("team") == SENTENCE
        assert [path.name for path in house.models.iterdir()] == [f"{NAME}.gguf"]
        assert house.runtimes.describe("team").stored is True


async def test_an_updated_shared_file_is_used_by_the_next_request(furnish: Furnish, shared: Path) -> None:
    """H2: without a restart, and not after the next look only; requests under way end with what they began with."""
    (shared / "team.gguf").write_bytes(WHOLE)
    async with furnish(shared_models_dir=str(shared)) as house:
        await house.start()
        before = await house.runtimes.wake("llamacpp/team")
        assert await house.runtimes.wake("llamacpp/team") == before
        lease = house.begin("llamacpp/team")
        tokens = await house.prompt_tokens("team")
        new = shared / "new"
        new.write_bytes(_with_a_bare_template())
        new.replace(shared / "team.gguf")
        mine = house.begin("llamacpp/team")
        after = asyncio.create_task(house.prompt_tokens("team"))
        assert await house.ask_at(before, "team") == SENTENCE  # the old process still answers
        assert not after.done()
        house.end(lease)
        assert await after < tokens
        house.end(mine)


async def test_a_shared_directory_that_is_gone(furnish: Furnish, shared: Path) -> None:
    """H2: its models are fetched, where they are offered; the others leave the list."""
    for name in ("team", "only"):
        (shared / f"{name}.gguf").write_bytes(WHOLE)
    async with furnish(shared_models_dir=str(shared)) as house:
        await house.start()
        house.router.offer("team", WHOLE)
        await house.hear()
        await house.runtimes.wake("llamacpp/team")
        await house.until(lambda: "team" in house.offers.current)
        await asyncio.to_thread(shared.rename, shared.with_name("elsewhere"))
        assert await house.ask("team") == SENTENCE
        assert (house.models / "team.gguf").exists()
        with pytest.raises(UpstreamFailed):
            await house.runtimes.wake("llamacpp/only")
        assert "only" not in house.registry


async def test_the_same_file_touched(furnish: Furnish, shared: Path) -> None:
    """H2: a change of its time alone counts."""
    path = shared / "team.gguf"
    path.write_bytes(WHOLE)
    async with furnish(shared_models_dir=str(shared)) as house:
        await house.start()
        await house.runtimes.wake("llamacpp/team")
        os.utime(path, (1, 1))
        await house.runtimes.wake("llamacpp/team")
        assert (await house.journal.entry("model.changed"))["model"] == "team"


def _with_a_bare_template() -> bytes:
    """The built-in model with a chat template that has no words of its own, as long as the other."""
    bare = "{% for message in messages %}{{ message['content'] }}{% endfor %}{#"
    return WHOLE.replace(CHATML.encode(), f"{bare:<{len(CHATML) - 2}}#}}".encode())
