"""llama.cpp: one process of ours for each model in memory.

Every stored model that this machine can run is an upstream from the start; its process starts with its first request,
or ahead: the built-in model's at once, those of the setting `preload` right after. While it does not run, its upstream
has no address. Who sees that it runs, and that it answers, is `supervisor.py`; who says for how long, and beside which
others, is `loader.py`. What the process is, the wheel's llama.cpp or a `llama-server`, is settled at the start
(`llama_server.py`).

xllamacpp's server closes the connection after every streamed answer though it announces keep-alive (measured with
2026.10); the gateway is prepared for that.
"""

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiohttp
from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from llm_router.config import NodeConfig
from llm_router.contract import Address, RuntimeFacts
from llm_router.core.health import Signal, State
from llm_router.core.node import DIALECTS, Node
from llm_router.core.registry import Registry
from llm_router.errors import BadRequest, ConfigError, RouterError
from llm_router.models import memory
from llm_router.node.models import builtin
from llm_router.node.models.asking import LlamaCpp as Asked
from llm_router.node.models.runnable import Room, Runnable, Support, runnable
from llm_router.node.models.store import Store, StoredModel
from llm_router.node.runtimes.base import Runtime
from llm_router.node.runtimes.llama_server import Build, LlamaServer, choose
from llm_router.node.runtimes.llamacpp_child import Settings
from llm_router.node.runtimes.llamacpp_process import ModelProcess
from llm_router.node.runtimes.loader import Loader, Model
from llm_router.node.runtimes.process import Moved, ServerProcess
from llm_router.node.runtimes.supervisor import Supervisor
from llm_router.wire.wishes import Wishes, keep_alive

SCAN_EVERY = 4.0  # seconds; a new file is listed after two looks, and 10 s is what a change may take (requirement C8)
MIB = 1 << 20
LARGEST_CACHE = 512 * MIB  # of conversations that no slot holds; at 128 kB a token, as an 8B model's, 4,096 of them


class LlamaCpp(Runtime):
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
        budget: Callable[[bool], float] = lambda _gpu: math.inf,
    ) -> None:
        """Say whom to tell.

        Args:
            registry: where the models are listed.
            store: where their files are.
            config: how many requests a model answers at once, with how much context, and how long it stays.
            session: for looks at processes.
            log: for what happens to them.
            changed: called when the store has other models than before, or memory has.
            restarted: called when a process that had ended serves again.
            budget: bytes that models may take together, where they are computed on a graphics processor, or not.

        Raises:
            ConfigError: `keep_alive` is no duration.
        """
        self._registry = registry
        self._store = store
        self._config = config
        self._session = session
        self._log = log
        self._changed = changed
        self._restarted = restarted
        self._budget = budget
        self._build = Build.of_wheel()
        self._asked = Asked()
        self._logs = config.home / "node" / "logs"
        self._threads = config.threads or max(1, (os.cpu_count() or 1) // 2)
        self._loader = Loader(math.inf, _keep_alive(config), config.queue_timeout, log, self._on_unloaded)
        self._lost: set[str] = set()  # ids of those that served and ended by themselves
        self._last = Runnable([], {})
        self._told: dict[Path, str] = {}  # why a file is no model here
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """List what is stored, bring up the built-in model, and keep looking at the store.

        Raises:
            ConfigError: the setting `llama_server` names no such program.
        """
        self._build = await choose(self._config.llama_server)
        self._asked = Asked(self._build.path)
        self._loader.budget = self._budget(self._build.gpu)
        self._last = await asyncio.to_thread(self._prepare_store)
        self._tell_refused(self._last.refused)
        for model in self._last.models:
            self._add(model)
        self._loader.start()
        await self._load_ahead(builtin.NAME)
        self._tasks = [asyncio.create_task(self._preload()), asyncio.create_task(self._keep_scanning())]

    async def stop(self) -> None:
        """End every process and wait for it; whoever waits for one that is starting gets UpstreamFailed."""
        for task in self._tasks:
            task.cancel()
        await self._loader.stop()

    def facts(self) -> RuntimeFacts:
        """Each model in memory answers `parallel` requests at once, and one can always be loaded."""
        return RuntimeFacts("llamacpp", self._build.version, self._config.parallel * max(1, len(self.loaded())))

    def loaded(self) -> list[str]:
        """Models whose process serves."""
        return [model.name for model in self._loader.models.values() if model.address is not None]

    async def wake(self, upstream_id: str) -> Address | None:
        """Load the model, or wait with others for the load under way; None: not one of ours."""
        model = self._loader.models.get(upstream_id)
        return await self._loader.load(model) if model is not None else None

    async def check(self, upstream_id: str) -> None:
        """Replace the process if it does not answer; either way the upstream can be used again after it."""
        model = self._loader.models.get(upstream_id)
        if model is not None:
            await model.supervisor.check()
            self._registry.signal(upstream_id, Signal.PROBE_OK, time.monotonic())

    def prepare(self, upstream_id: str, wishes: Wishes) -> None:
        """Keep the model for as long, and with as much context, as the request wants; not more than it was made for."""
        model = self._loader.models.get(upstream_id)
        if model is not None:
            self._loader.wish(model, replace(wishes, context=min(wishes.context, model.most)))

    def served(self, upstream_id: str) -> None:
        """A request has ended."""
        model = self._loader.models.get(upstream_id)
        if model is not None:
            self._loader.served(model)

    # -- the store

    async def rescan(self) -> None:
        """List what has come into the store, and forget what has gone from it (requirement C8).

        A file is taken when two looks saw it alike, so that one which is still being copied is not, and likewise said
        to be no good; a model that is gone goes when nobody uses it.
        """
        last, self._last = self._last, await asyncio.to_thread(self._look)
        self._tell_refused({p: why for p, why in self._last.refused.items() if last.refused.get(p) == why})
        models = self._loader.models
        stored = {_upstream_id(model.id): model for model in self._last.models}
        new = [m for i, m in stored.items() if i not in models and m in last.models]
        gone = [m for i, m in models.items() if i not in stored and m.is_idle]
        for stored_model in new:
            self._log.info("model.added", model=stored_model.id, path=str(stored_model.path))
            self._add(stored_model)
        for model in gone:
            self._log.info("model.removed", model=model.name)
            self._registry.remove(model.id)
            await self._loader.remove(model)
        if new or gone:
            self._changed()

    async def _keep_scanning(self) -> None:
        while True:
            await asyncio.sleep(SCAN_EVERY)  # noqa: TID251 - directories have no event that every platform can await
            await self.rescan()

    def _prepare_store(self) -> Runnable:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._store.ensure_builtin()
        return self._look()

    def _look(self) -> Runnable:
        """What is stored and can be run here; why the rest cannot."""
        scan, config, budget = self._store.scan(), self._config, self._loader.budget
        names = [name for model in scan.models for name in model.architectures if model.format == "gguf"]
        support = Support("llamacpp", self._asked.unknown(names))
        room = Room(0 if budget == math.inf else int(budget), config.context, config.parallel)
        found = runnable(scan.models, [support], room)
        return Runnable(found.models, scan.skipped | found.refused)

    def _tell_refused(self, refused: dict[Path, str]) -> None:
        """Each once."""
        for path, reason in refused.items():
            if self._told.get(path) != reason:
                self._told[path] = reason
                self._log.warning("model.skipped", path=str(path), reason=reason)

    # -- one model

    async def _preload(self) -> None:
        """One after another: they would only wait for the same disk."""
        for name in self._config.preload:
            await self._load_ahead(name.strip().lower())

    async def _load_ahead(self, name: str) -> None:
        model = self._loader.models.get(_upstream_id(name))
        if model is None:
            self._log.warning("model.not_preloaded", model=name, reason="it is not stored here, or cannot run here")
            return
        with contextlib.suppress(RouterError):  # it is logged, and other models may well run
            await self._loader.load(model)

    def _add(self, stored: StoredModel) -> None:
        config = self._config
        upstream = Node(
            _upstream_id(stored.id),
            stored.id,
            "llamacpp",
            None,
            dialects=DIALECTS["llamacpp"],
            slots=config.parallel,
            local=True,
            state=State.ONLINE,
            models=(stored.id,),
        )
        self._registry.add(upstream, time.monotonic())
        most = (stored.facts.context if stored.facts else 0) or config.context
        self._loader.models[upstream.id] = Model(
            upstream,
            context=min(config.context, most),
            most=most,
            need=partial(self._need, stored),
            make=partial(self._make, upstream, stored),
        )

    def _need(self, stored: StoredModel, context: int) -> int:
        """Bytes that it takes with so much context for each request."""
        return self._to_run(stored, context) + self._cache(stored)

    def _to_run(self, stored: StoredModel, context: int) -> int:
        if stored.facts is None:
            return stored.size
        return memory.need(stored.facts, stored.size, context=context, parallel=self._config.parallel).total

    def _cache(self, stored: StoredModel) -> int:
        """Bytes for conversations that no slot holds: as large as the model at most, and no more than there is."""
        room = self._loader.budget - self._to_run(stored, self._config.context)
        return int(max(0, min(LARGEST_CACHE, stored.size, room)))

    def _make(self, upstream: Node, stored: StoredModel, context: int) -> Supervisor:
        facts = stored.facts
        settings = Settings(
            id=stored.id,
            path=str(stored.path),
            log=str(self._logs / _log_name(stored.id)),
            parallel=self._config.parallel,
            context=context,
            threads=self._threads,
            cache=self._cache(stored) // MIB,
            pools=facts is not None and facts.pooling is not None,
        )
        in_use = lambda: upstream.in_flight > 0  # noqa: E731 - a question, asked in one place
        return Supervisor(
            "model",
            partial(self._process, settings),
            self._session,
            self._log,
            in_use=in_use,
            moved=partial(self._on_moved, upstream.id),
        )

    def _process(self, settings: Settings, moved: Moved) -> ServerProcess:
        if self._build.path:
            return LlamaServer(self._build, settings, self._session, moved)
        return ModelProcess(settings, moved)

    def _on_moved(self, upstream_id: str, address: Address | None) -> None:
        """Its process serves, or has ended by itself."""
        self._registry.relocate(upstream_id, address)
        if address is None:
            self._lost.add(upstream_id)
        elif upstream_id in self._lost:
            self._lost.discard(upstream_id)
            self._restarted()
        self._changed()

    def _on_unloaded(self, model: Model) -> None:
        self._registry.relocate(model.id, None)
        self._changed()


def _keep_alive(config: NodeConfig) -> float:
    try:
        return keep_alive(config.keep_alive)
    except BadRequest as error:
        raise ConfigError(f"--keep-alive: {error.message}") from error


def _upstream_id(model_id: str) -> str:
    return f"llamacpp/{model_id}"


def _log_name(model_id: str) -> str:
    """A file name for every id, and no two the same: `+` and `=` are in no id."""
    return model_id.replace("/", "+").replace(":", "=") + ".log"
