"""llama.cpp: one child process of ours for each model in use.

Every stored model is an upstream from the start; its process starts with its first request (the built-in model's at
once). When a process ends, its upstream has no address until the process runs again. Who sees that it does, and that
it answers, is `supervisor.py`.

xllamacpp's server closes the connection after every streamed answer though it announces keep-alive (measured with
2026.10); the gateway is prepared for that.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import aiohttp
from structlog.typing import FilteringBoundLogger

from llm_router.config import NodeConfig
from llm_router.contract import Address, RuntimeFacts
from llm_router.core.health import Signal, State
from llm_router.core.node import DIALECTS, Node
from llm_router.core.registry import Registry
from llm_router.errors import UpstreamFailed
from llm_router.node.models import builtin
from llm_router.node.models.store import Scan, Store, StoredModel
from llm_router.node.runtimes.llamacpp_child import Settings
from llm_router.node.runtimes.supervisor import Supervisor

SCAN_EVERY = 4.0  # seconds; a new file is listed after two looks, and 10 s is what a change may take (requirement C8)


class LlamaCpp:
    """The runtime `llamacpp`. See `base.Runtime`."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        config: NodeConfig,
        session: aiohttp.ClientSession,
        log: FilteringBoundLogger,
        *,
        changed: Callable[[], None],
        restarted: Callable[[], None],
    ) -> None:
        """Say whom to tell.

        Args:
            registry: where the models are listed.
            store: where their files are.
            config: how many requests a model answers at once, and with how much context.
            session: for looks at processes.
            log: for what happens to them.
            changed: called when the store has other models than before, or memory has.
            restarted: called when a process that had ended serves again.
        """
        self._registry = registry
        self._store = store
        self._config = config
        self._session = session
        self._log = log
        self._changed = changed
        self._restarted = restarted
        self._logs = config.home / "node" / "logs"
        self._threads = config.threads or max(1, (os.cpu_count() or 1) // 2)
        self._processes: dict[str, Supervisor] = {}  # by upstream id: every stored model has one, running or not
        self._lost: set[str] = set()  # ids of those that served and ended by themselves
        self._last = Scan([], {})
        self._scanning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """List what is stored, bring up the built-in model, and keep looking at the store."""
        self._last = await asyncio.to_thread(self._prepare)
        self._tell_skipped(self._last.skipped)
        for model in self._last.models:
            self._add(model)
        self._scanning = asyncio.create_task(self._keep_scanning())
        with contextlib.suppress(UpstreamFailed):  # it is logged, and other models may well run
            await self.wake(_upstream_id(builtin.NAME))

    async def stop(self) -> None:
        """End every process and wait for it; whoever waits for one that is starting gets UpstreamFailed."""
        if self._scanning is not None:
            self._scanning.cancel()
        await asyncio.gather(*(process.end() for process in self._processes.values()))

    def facts(self) -> RuntimeFacts:
        """Each model's process answers `parallel` requests at once."""
        return RuntimeFacts("llamacpp", version("xllamacpp"), self._config.parallel)

    def loaded(self) -> list[str]:
        """Models whose process serves."""
        return [process.settings.id for process in self._processes.values() if process.address]

    async def wake(self, upstream_id: str) -> Address | None:
        """Start the model's process, or wait with others for the start under way; None: not one of ours."""
        process = self._processes.get(upstream_id)
        return await process.wake() if process is not None else None

    async def check(self, upstream_id: str) -> None:
        """Replace the process if it does not answer; either way the upstream can be used again after it."""
        process = self._processes.get(upstream_id)
        if process is not None:
            await process.check()
            self._registry.signal(upstream_id, Signal.PROBE_OK, time.monotonic())

    async def rescan(self) -> None:
        """List what has come into the store, and forget what has gone from it (requirement C8).

        A file is taken when two looks saw it alike, so that one which is still being copied is not; a model that is
        gone goes when nobody uses it.
        """
        last, self._last = self._last, await asyncio.to_thread(self._store.scan)
        self._tell_skipped({p: why for p, why in self._last.skipped.items() if p not in last.skipped})
        stored = {_upstream_id(model.id): model for model in self._last.models}
        new = [m for i, m in stored.items() if i not in self._processes and m in last.models]
        gone = [i for i in self._processes if i not in stored and not self._registry.nodes[i].in_flight]
        for model in new:
            self._log.info("model.added", model=model.id, path=str(model.path))
            self._add(model)
        for upstream_id in gone:
            self._log.info("model.removed", model=self._processes[upstream_id].settings.id)
            self._registry.remove(upstream_id)
            await self._processes.pop(upstream_id).end()
        if new or gone:
            self._changed()

    async def _keep_scanning(self) -> None:
        while True:
            await asyncio.sleep(SCAN_EVERY)  # noqa: TID251 - directories have no event that every platform can await
            await self.rescan()

    def _tell_skipped(self, skipped: dict[Path, str]) -> None:
        for path, reason in skipped.items():
            self._log.warning("model.skipped", path=str(path), reason=reason)

    def _prepare(self) -> Scan:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._store.ensure_builtin()
        return self._store.scan()

    def _add(self, model: StoredModel) -> None:
        upstream = Node(
            _upstream_id(model.id),
            model.id,
            "llamacpp",
            None,
            dialects=DIALECTS["llamacpp"],
            slots=self._config.parallel,
            local=True,
            state=State.ONLINE,
            models=(model.id,),
        )
        self._registry.add(upstream, time.monotonic())
        settings = Settings(
            id=model.id,
            path=str(model.path),
            log=str(self._logs / _log_name(model.id)),
            parallel=self._config.parallel,
            context=self._config.context,
            threads=self._threads,
        )

        def moved(address: Address | None) -> None:
            self._registry.relocate(upstream.id, address)
            if address is None:
                self._lost.add(upstream.id)
            elif upstream.id in self._lost:
                self._lost.discard(upstream.id)
                self._restarted()
            self._changed()

        in_use = lambda: upstream.in_flight > 0  # noqa: E731 - a question, asked in one place
        supervisor = Supervisor(settings, self._session, self._log, in_use=in_use, moved=moved)
        self._processes[upstream.id] = supervisor


def _upstream_id(model_id: str) -> str:
    return f"llamacpp/{model_id}"


def _log_name(model_id: str) -> str:
    """A file name for every id, and no two the same: `+` and `=` are in no id."""
    return model_id.replace("/", "+").replace(":", "=") + ".log"
