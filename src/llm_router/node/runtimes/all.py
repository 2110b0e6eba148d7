"""All runtimes of the agent, made as the settings say and asked as if they were one."""

import asyncio
from collections.abc import Callable, Sequence

import aiohttp
from structlog.typing import FilteringBoundLogger

from llm_router.config import NodeConfig
from llm_router.contract import Address, Progress, RuntimeFacts
from llm_router.core.registry import Registry
from llm_router.errors import UpstreamFailed
from llm_router.node.hardware import Hardware
from llm_router.node.models.store import Store
from llm_router.node.runtimes.attached import Attached
from llm_router.node.runtimes.base import Runtime
from llm_router.node.runtimes.llamacpp import LlamaCpp
from llm_router.node.runtimes.ollama import Ollama
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
    changed: Callable[[], None],
    restarted: Callable[[], None],
) -> "Runtimes":
    """The runtimes of the setting `runtime`; for the arguments see `LlamaCpp`.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def budget(gpu: bool) -> float:  # noqa: FBT001 - LlamaCpp's call
        return config.memory or hardware.budget(None if gpu else "cpu")

    def make(spec: Spec) -> Runtime:
        if spec.kind == "llamacpp":
            store = Store(config.home / "node" / "models")
            return LlamaCpp(registry, store, config, session, log, changed=changed, restarted=restarted, budget=budget)
        if spec.address is None:
            return Ollama(registry, config, session, log, hardware=hardware, changed=changed, restarted=restarted)
        return Attached(spec.kind, spec.address, registry, session, log, changed)

    return Runtimes([make(spec) for spec in parse_specs(config.runtime or UNASKED)])


class Runtimes:
    """See `base.Runtime` for what is asked; the one that an upstream belongs to answers."""

    def __init__(self, runtimes: Sequence[Runtime]) -> None:
        self._runtimes = runtimes

    async def start(self) -> None:
        """Start all, side by side.

        Raises:
            ConfigError: a setting cannot be used.
        """
        await asyncio.gather(*(runtime.start() for runtime in self._runtimes))

    async def stop(self) -> None:
        """Stop all, side by side."""
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
        return [step for runtime in self._runtimes for step in runtime.progress()]

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
