"""All runtimes of the agent, made as the settings say and asked as if they were one."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp
import msgspec
from structlog.typing import FilteringBoundLogger

from llm_router.config import NodeConfig
from llm_router.contract import Address, ModelEntry, Progress, RuntimeFacts
from llm_router.core.registry import Registry
from llm_router.errors import UpstreamFailed
from llm_router.node.hardware import Hardware
from llm_router.node.models.fetch import Fetcher
from llm_router.node.models.offers import Offers
from llm_router.node.models.store import Store, StoredModel
from llm_router.node.runtimes.attached import Attached
from llm_router.node.runtimes.base import Runtime
from llm_router.node.runtimes.llamacpp.runtime import LlamaCpp
from llm_router.node.runtimes.ollama.runtime import Ollama
from llm_router.node.runtimes.spec import Spec, parse_specs
from llm_router.wire.wishes import Wishes

# What a node has where nobody says: llama.cpp, which is here already, and an Ollama, which is fetched.
UNASKED = ["llamacpp", "ollama"]


def make_runtimes(
    registry: Registry,
    config: NodeConfig,
    session: aiohttp.ClientSession,
    log: FilteringBoundLogger,
    *,
    hardware: Hardware,
    offers: Offers,
    changed: Callable[[], None],
    restarted: Callable[[], None],
) -> "Runtimes":
    """The runtimes of the setting `runtime`; for the arguments see `LlamaCpp`, and `Fetcher`.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def on_fetch() -> None:
        runtimes.fetching()
        changed()

    shared = Path(config.shared_models_dir).expanduser().absolute() if config.shared_models_dir else None
    store = Store(config.home / "node" / "models", shared)
    fetcher = Fetcher(
        store,
        offers,
        config,
        session,
        log,
        changed=on_fetch,
        arrived=lambda: runtimes.rescan(),  # noqa: PLW0108 - not there yet
    )

    def budget(gpu: bool) -> float:  # noqa: FBT001 - LlamaCpp's call
        return config.memory or hardware.budget(None if gpu else "cpu")

    def make(spec: Spec) -> Runtime:
        if spec.kind == "llamacpp":
            tell = {"changed": changed, "restarted": restarted}
            return LlamaCpp(registry, store, config, session, log, **tell, budget=budget, fetcher=fetcher)
        if spec.address is None:
            return Ollama(registry, config, session, log, hardware=hardware, changed=changed, restarted=restarted)
        return Attached(spec.kind, spec.address, registry, session, log, changed)

    runtimes = Runtimes([make(spec) for spec in parse_specs(config.runtime or UNASKED)], registry, store, fetcher)
    return runtimes


class Runtimes:
    """See `base.Runtime` for what is asked; the one that an upstream belongs to answers.

    `store` and `fetcher`: the node's models, whichever runtime runs them.
    """

    def __init__(self, runtimes: Sequence[Runtime], registry: Registry, store: Store, fetcher: Fetcher) -> None:
        self._runtimes = runtimes
        self._registry = registry
        self.store = store
        self.fetcher = fetcher

    async def start(self) -> None:
        """Start all, side by side.

        Raises:
            ConfigError: a setting cannot be used.
        """
        await asyncio.gather(*(runtime.start() for runtime in self._runtimes))

    async def stop(self) -> None:
        """Stop all, side by side; what is being fetched is gone on with at the next start."""
        await self.fetcher.stop()
        await asyncio.gather(*(runtime.stop() for runtime in self._runtimes))

    def facts(self) -> list[RuntimeFacts]:
        """One entry for each; none for one that is not there yet."""
        return [facts for runtime in self._runtimes if (facts := runtime.facts()).slots]

    def slots(self) -> int:
        """Requests that they run at once, together."""
        return sum(facts.slots for facts in self.facts())

    def loaded(self) -> list[str]:
        """Models that are in memory now."""
        return [model for runtime in self._runtimes for model in runtime.loaded()]

    def progress(self) -> list[Progress]:
        """What is being fetched."""
        waiting = [step for runtime in self._runtimes for step in runtime.progress()]
        return [*self.fetcher.progress(), *waiting]

    def describe(self, name: str) -> ModelEntry:
        """What is told of a model in lists; of one that nobody lists, its name."""
        nodes = [node for node in self._registry if name in node.models]
        node = next((node for node in nodes if name not in node.absent), nodes[0] if nodes else None)
        if node is None:
            return ModelEntry(name)
        return msgspec.structs.replace(node.entries.get(name) or ModelEntry(name), stored=name not in node.absent)

    def find(self, name: str) -> StoredModel | None:
        """The stored model that is listed under this name; None: there is none, or it is a runtime's own."""
        return next((found for runtime in self._runtimes if (found := runtime.find(name)) is not None), None)

    def listing(self) -> dict[str, ModelEntry]:
        """Every model that can be asked for now."""
        return {name: self.describe(name) for name in self._registry.available()}

    async def rescan(self) -> None:
        """What is stored may be other than before: list it now."""
        await asyncio.gather(*(runtime.rescan() for runtime in self._runtimes))

    def offered(self) -> None:
        """What the router offers is other than before."""
        self.fetcher.offered()
        for runtime in self._runtimes:
            runtime.offered()

    def fetching(self) -> None:
        """A model begins to be fetched, or is fetched no more."""
        for runtime in self._runtimes:
            runtime.fetching()

    async def wake(self, upstream_id: str) -> Address:
        """Bring up an upstream without an address.

        Raises:
            UpstreamFailed: it did not come up, or is no more.
            QueueTimeout: it is well, but there is no room for it now.
        """
        for runtime in self._runtimes:
            address = await runtime.wake(upstream_id)
            if address is not None:
                return address
        raise UpstreamFailed(f"{upstream_id} is no runtime of this node any more")

    async def check(self, upstream_id: str) -> None:
        """A request to this upstream failed."""
        for runtime in self._runtimes:
            await runtime.check(upstream_id)

    def prepare(self, upstream_id: str, wishes: Wishes) -> None:
        """A request on its way to this upstream asks for this."""
        for runtime in self._runtimes:
            runtime.prepare(upstream_id, wishes)

    def served(self, upstream_id: str) -> None:
        """A request to this upstream has ended."""
        for runtime in self._runtimes:
            runtime.served(upstream_id)
