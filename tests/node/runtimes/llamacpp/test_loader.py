"""Models come into memory and leave it, with real processes (issue 6: three GGUF models, room for two)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import aiohttp
import psutil
import pytest
from msgspec.structs import replace
from tests.node.conftest import Journal, runtimes_processes

from llm_router.config import NodeConfig
from llm_router.core.ask import Ask
from llm_router.core.node import Lease, Node
from llm_router.core.registry import Registry
from llm_router.errors import QueueTimeout, UpstreamFailed
from llm_router.models import gguf, memory
from llm_router.node.models.builtin import CONTEXT, NAME, model_bytes, write
from llm_router.node.models.store import Store
from llm_router.node.runtimes.llamacpp import loader
from llm_router.node.runtimes.llamacpp.runtime import LlamaCpp
from llm_router.wire.wishes import Wishes

A, B, C = "llamacpp/a", "llamacpp/b", "llamacpp/c"


class House:
    """A runtime with the models a, b and c beside the built-in one, and room for two of them."""

    def __init__(self, config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> None:
        self.registry = Registry()
        self.journal = journal
        models = config.home / "node" / "models"
        models.mkdir(parents=True)
        for name in "abc":
            write(models / f"{name}.gguf")
        facts, size = gguf.read(models / "a.gguf"), (models / "a.gguf").stat().st_size
        self.need = memory.need(facts, size, context=config.context, parallel=config.parallel).total + size
        self.changes = 0
        self.restarts = 0
        self.runtime = LlamaCpp(
            self.registry,
            Store(models),
            config,
            session,
            journal.log,
            changed=self._changed,
            restarted=self._restarted,
            budget=lambda _gpu: 2.5 * self.need,
        )

    def _changed(self) -> None:
        self.changes += 1

    def _restarted(self) -> None:
        self.restarts += 1

    def upstream(self, upstream_id: str) -> Node:
        return self.registry.nodes[upstream_id]

    def begin(self, upstream_id: str) -> Lease:
        """A request is in flight there."""
        upstream = self.upstream(upstream_id)
        lease = Lease(upstream, Ask(upstream.name, 0.0), 0.0)
        upstream.leases.add(lease)
        return lease

    def end(self, lease: Lease) -> None:
        """It is over, as the gateway says it."""
        lease.node.leases.discard(lease)
        lease.node.touch(lease.node.name, time.monotonic())
        self.runtime.served(lease.node.id)

    async def use(self, *upstream_ids: str) -> None:
        """One request to each, one after another."""
        for upstream_id in upstream_ids:
            lease = self.begin(upstream_id)
            await self.runtime.wake(upstream_id)
            self.end(lease)

    def loaded(self) -> list[str]:
        return sorted(self.runtime.loaded())


Furnish: TypeAlias = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def furnish(config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> Furnish:
    @asynccontextmanager
    async def furnished(**settings: object) -> AsyncIterator[House]:
        house = House(replace(config, **settings), session, journal)
        try:
            await house.runtime.start()
            yield house
        finally:
            await house.runtime.stop()
        assert not runtimes_processes()

    return furnished


@pytest.fixture
async def house(furnish: Furnish) -> AsyncIterator[House]:
    async with furnish() as house:
        yield house


def processes() -> int:
    return len(runtimes_processes())


async def test_room_for_two(house: House) -> None:
    """The third evicts the one that was used longest ago; memory never holds more than two."""
    assert house.loaded() == [NAME]
    await house.use(A)
    assert house.loaded() == ["a", NAME]
    await house.use(B)
    assert house.loaded() == ["a", "b"]
    await house.use(A, C)
    assert house.loaded() == ["a", "c"]
    assert house.upstream(B).address is None
    assert processes() == 2
    reasons = [entry["reason"] for entry in house.journal.find("model.unloaded")]
    assert reasons == ["to make room for b", "to make room for c"]


async def test_one_in_use_is_never_evicted(house: House) -> None:
    """It may have been asked for longest ago: who comes last takes the place of an idle one."""
    await house.use(A, B)
    lease = house.begin(A)
    before = house.upstream(A).address
    await house.use(C)
    assert house.loaded() == ["a", "c"]
    assert house.upstream(A).address == before
    house.end(lease)


async def test_all_in_use(house: House) -> None:
    """Where every model in memory is in use, a request waits for one of them to become idle, and then has its place."""
    await house.use(A, B)
    first, second = house.begin(A), house.begin(B)
    waiting = asyncio.create_task(house.use(C))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.2)
    assert house.loaded() == ["a", "b"]
    house.end(second)
    await waiting
    assert house.loaded() == ["a", "c"]
    house.end(first)


async def test_waited_in_vain(furnish: Furnish) -> None:
    """After the queue's time it is told to come again: the node is busy, and nothing is wrong with the model."""
    async with furnish(queue_timeout=0.2) as house:
        await house.use(A, B)
        leases = [house.begin(A), house.begin(B)]
        with pytest.raises(QueueTimeout, match=r"models in use left no memory for 'c' within 0\.2 s") as raised:
            await house.runtime.wake(C)
        assert raised.value.retry_after > 0
        assert house.loaded() == ["a", "b"]
        for lease in leases:
            house.end(lease)
        await house.use(C)


async def test_no_queue(furnish: Furnish) -> None:
    """Where nobody waits, a model that has room is loaded all the same."""
    async with furnish(queue_timeout=0.0) as house:
        await house.use(A, B)
        lease, other = house.begin(A), house.begin(B)
        with pytest.raises(QueueTimeout):
            await house.runtime.wake(C)
        house.end(lease)
        await house.use(C)
        house.end(other)


async def test_one_that_is_never_idle_is_closed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that overlap would keep others out for ever: once somebody has waited, new ones wait, for once."""
    monkeypatch.setattr(loader, "PATIENCE", 0.0)
    await house.use(A, B)
    first, second = house.begin(A), house.begin(B)
    waiting = asyncio.create_task(house.use(C))
    for _ in range(5):
        await asyncio.sleep(0)  # noqa: TID251 - lets it look around
    assert not house.upstream(A).has_room()
    assert house.upstream(B).has_room()  # one is enough
    house.end(first)
    await waiting
    assert house.loaded() == ["b", "c"]
    assert house.upstream(A).has_room()
    house.end(second)


async def test_who_stops_waiting_takes_no_place(house: House) -> None:
    """A client that goes away while it waits for room leaves everything as it was."""
    await house.use(A, B)
    leases = [house.begin(A), house.begin(B)]
    waiting = asyncio.create_task(house.runtime.wake(C))
    await asyncio.sleep(0)  # noqa: TID251 - lets it begin to wait
    waiting.cancel()
    await asyncio.wait({waiting})
    for lease in leases:
        house.end(lease)
    await house.use(A)
    assert house.loaded() == ["a", "b"]


async def test_many_callers_share_one_load(house: House) -> None:
    """Ten requests for a model that is not in memory start one process."""
    addresses = await asyncio.gather(*(house.runtime.wake(A) for _ in range(10)))
    assert len(set(addresses)) == 1
    assert len(house.journal.find("model.started")) == 2  # the built-in model's, too


async def test_all_at_once(house: House) -> None:
    """Whatever is asked for in whatever order, everybody gets an answer, and memory never holds more than two."""
    most = 0

    async def watched(upstream_id: str) -> None:
        nonlocal most
        lease = house.begin(upstream_id)
        await house.runtime.wake(upstream_id)
        most = max(most, processes())
        house.end(lease)

    await asyncio.gather(*(watched(upstream_id) for upstream_id in (A, B, C, A, C, B, A)))
    assert most <= 2


async def test_unused_for_long_enough(furnish: Furnish) -> None:
    """A model that nobody uses leaves memory after `keep_alive`, and the router hears of it at once (D1)."""
    async with furnish(keep_alive="200ms") as house:
        lease = house.begin(A)
        await house.runtime.wake(A)
        unloaded = await house.journal.entry("model.unloaded")
        assert (unloaded["model"], unloaded["reason"]) == (NAME, "unused for 0.2 s")
        assert house.loaded() == ["a"]  # in use
        changes = house.changes
        house.end(lease)
        await house.journal.entry("model.unloaded", 2)
        assert house.loaded() == []
        assert house.changes == changes + 1
        await all_gone()
        assert house.restarts == 0  # nothing was wrong with it
        await house.use(A)
        assert house.restarts == 0


async def test_not_kept_at_all(furnish: Furnish) -> None:
    """`keep_alive` 0: out of memory as soon as the last answer is given."""
    async with furnish(keep_alive="0") as house:
        first, second = house.begin(A), house.begin(A)
        await house.runtime.wake(A)
        house.end(first)
        assert house.loaded() == ["a"]
        house.end(second)
        await all_gone()


async def test_a_request_says_how_long(furnish: Furnish) -> None:
    """What a request says counts for its model alone, until it is unloaded; -1 is for ever (Ollama's `keep_alive`)."""
    async with furnish(keep_alive="-1") as house:
        lease = house.begin(A)
        house.runtime.prepare(A, Wishes(keep_alive=0.0))
        await house.runtime.wake(A)
        assert house.loaded() == ["a", NAME]
        house.end(lease)
        await house.journal.entry("model.unloaded")
        assert house.loaded() == [NAME]
        await house.use(A)
        assert house.loaded() == ["a", NAME]


async def test_more_context(house: House) -> None:
    """`num_ctx`: a model that nobody else uses is loaded again with more; what others use is left as it is."""
    await house.use(A)
    address = house.upstream(A).address
    lease, other = house.begin(A), house.begin(A)
    house.runtime.prepare(A, Wishes(context=1024))
    assert house.upstream(A).address == address
    house.end(other)
    house.runtime.prepare(A, Wishes(context=256))
    assert house.upstream(A).address == address  # it has as much
    house.runtime.prepare(A, Wishes(context=1024))
    assert house.upstream(A).address is None
    await house.runtime.wake(A)
    assert await context_of(house, A) == 1024
    house.runtime.prepare(A, Wishes(context=1024))
    assert house.upstream(A).address is not None
    house.end(lease)


async def test_more_context_than_it_was_made_for(house: House) -> None:
    """A model gets no more context than it was made for, whatever a request wants."""
    house.runtime.prepare(A, Wishes(context=10_000_000))
    await house.use(A)
    assert await context_of(house, A) == CONTEXT


async def test_more_context_than_there_is_memory_for(house: House) -> None:
    """A request makes do with the usual context where more would never fit."""
    house.runtime._loader.budget = house.need  # noqa: SLF001 - as on a smaller machine
    house.runtime.prepare(A, Wishes(context=CONTEXT))
    await house.use(A)
    assert await context_of(house, A) == 512


async def test_a_model_that_can_never_be_loaded(house: House) -> None:
    """Where what models may take has become less than one takes, its error says both."""
    house.runtime._loader.budget = 1_000_000  # noqa: SLF001 - as on a smaller machine
    with pytest.raises(UpstreamFailed, match=r"a cannot be loaded: it takes 0\.1 GB .* models may take 0\.0 GB here"):
        await house.runtime.wake(A)
    assert house.loaded() == [NAME]


async def test_loaded_ahead(furnish: Furnish) -> None:
    """`preload` loads models at the start; one that is not there is named, and harms nobody."""
    async with furnish(preload=["B", "missing"]) as house:
        await house.journal.entry("model.started", 2)
        missing = await house.journal.entry("model.not_preloaded")
        assert missing["model"] == "missing"
        assert house.loaded() == ["b", NAME]


async def test_slots(house: House) -> None:
    """A node answers as many requests at once as its models in memory do together."""
    assert house.runtime.facts().slots == 5
    await house.use(A)
    assert house.runtime.facts().slots == 10


async def test_one_that_dies_makes_room(house: House) -> None:
    """A process that ended by itself while nobody used it takes no memory any more."""
    await house.use(A, B)
    lease = house.begin(A)
    pids = {p.pid for p in runtimes_processes()}
    model = house.runtime._loader.models[B].supervisor  # noqa: SLF001 - which of the two processes it is
    psutil.Process(model._process.pid).kill()  # noqa: SLF001
    await house.journal.entry("model.process_ended")
    await house.use(C)
    assert house.loaded() == ["a", "c"]
    assert len(pids & {p.pid for p in runtimes_processes()}) == 1
    house.end(lease)


async def test_a_load_that_fails(house: House) -> None:
    """A load that fails gives its place back."""
    (house.runtime._store.directory / "d.gguf").write_bytes(  # noqa: SLF001 - where it was told to look
        model_bytes().replace(b"output_norm.weight", b"output_norm.wrong!")
    )
    await house.runtime.look()
    await house.runtime.look()
    await house.use(A)
    with pytest.raises(UpstreamFailed, match="d could not be started"):
        await house.runtime.wake("llamacpp/d")
    await house.use(A, B)
    assert house.loaded() == ["a", "b"]


async def context_of(house: House, upstream_id: str) -> int:
    """Tokens for each request, as llama.cpp itself says."""
    address = house.upstream(upstream_id).address
    assert address
    async with aiohttp.ClientSession() as session, session.get(f"{address.url}/props") as response:
        return int((await response.json())["default_generation_settings"]["n_ctx"])


async def all_gone() -> None:
    """Until no process is left."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, runtimes_processes(), 10)
    assert not alive
