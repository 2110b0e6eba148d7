"""llama.cpp: one process of ours for each model in memory.

    a model is                 its upstream
    stored, or shared          is there from the start; its process starts with its first request, or ahead: the
                               built-in model's at once, those of the setting `preload` right after
    offered by the router      is there too, if this machine could run it; its first request fetches the model, loads it
                               and is answered (requirement H1). `wanted` ones are fetched without a request

While no process runs, an upstream has no address. Who sees that it runs, and that it answers, is `supervisor.py`; who
says for how long, and beside which others, is `loader.py`. What the process is, the wheel's llama.cpp or a
`llama-server`, is settled at the start (`llama_server.py`); with what it is started, by `recipe.py`.

A shared model's upstream never has an address that others see: each request comes to `wake`, which has its files
looked at first (`stale.py`).

xllamacpp's server closes the connection after every streamed answer though it announces keep-alive (measured with
2026.10); the gateway is prepared for that.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from llm_router.config import NodeConfig
from llm_router.contract import Address, Progress, RuntimeFacts
from llm_router.core.health import Signal
from llm_router.core.registry import Registry
from llm_router.errors import BadRequest, ConfigError, RouterError, UpstreamFailed
from llm_router.models.manifest import Offer
from llm_router.models.names import path_below
from llm_router.node.models import builtin
from llm_router.node.models.fetch import Fetcher
from llm_router.node.models.store import Store, StoredModel
from llm_router.node.runtimes.base import Runtime
from llm_router.node.runtimes.llamacpp.board import Board, upstream_of
from llm_router.node.runtimes.llamacpp.loader import Loader, Model, Recipe, heard
from llm_router.node.runtimes.llamacpp.recipe import Cook
from llm_router.node.runtimes.llamacpp.stale import Stale
from llm_router.node.runtimes.llamacpp.stock import Look, Stock
from llm_router.node.runtimes.llamacpp.wanted import Wanted
from llm_router.wire.wishes import Wishes, keep_alive

SCAN_EVERY = 4.0  # seconds; a new file is listed after two looks, and 10 s is what a change may take (requirement C8)


class LlamaCpp(Runtime):
    """The runtime `llamacpp`. See `base.Runtime`."""

    def __init__(  # noqa: PLR0913 - all but five go by name
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
        fetcher: Fetcher | None = None,
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
            fetcher: has what is offered; None: nothing is.

        Raises:
            ConfigError: `keep_alive` is no duration.
        """
        self._registry = registry
        self._store = store
        self._config = config
        self._log = log
        self._changed = changed
        self._restarted = restarted
        self._budget = budget
        self._fetcher = fetcher
        self._stock = Stock(store, config)
        self._board = Board(registry, config.parallel)
        self._cook = Cook(config, session, log, self._on_moved)
        self._loader = Loader(math.inf, _keep_alive(config), config.queue_timeout, log, self._on_unloaded)
        self._wanted = Wanted(self._have, self._load_ahead, log)
        self._made_of: dict[str, StoredModel] = {}  # by upstream: what is stored
        self._absent: dict[str, StoredModel] = {}  # by upstream: what would have to be fetched
        self._lost: set[str] = set()  # ids of those that served and ended by themselves
        self._last = Look()
        self._one_look = asyncio.Lock()
        self._look_now = asyncio.Event()
        self._told: dict[Path, str] = {}  # why a file is no model here
        self._stale = Stale(self.rescan)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """List what is stored, bring up the built-in model, and keep looking at the store.

        Raises:
            ConfigError: the setting `llama_server` names no such program.
        """
        await self._cook.prepare(self._budget)
        self._loader.budget = self._cook.budget
        self._stock.can(self._cook.build.path, self._cook.budget)
        await asyncio.to_thread(self._store.ensure_builtin)
        self._last = await asyncio.to_thread(self._stock.look, self._offers())
        self._tell_refused(self._last.refused)
        await self._settle(self._last)
        self._loader.start()
        await self._load_ahead(builtin.NAME)
        self._tasks = [asyncio.create_task(self._preload()), asyncio.create_task(self._keep_looking())]

    async def stop(self) -> None:
        """End every process and wait for it; whoever waits for one that is starting gets UpstreamFailed."""
        for task in self._tasks:
            task.cancel()
        self._stale.stop()
        await self._wanted.stop()
        await self._loader.stop()

    def facts(self) -> RuntimeFacts:
        """Each model in memory answers `parallel` requests at once, and one can always be loaded."""
        return RuntimeFacts("llamacpp", self._cook.build.version, self._config.parallel * max(1, len(self.loaded())))

    def loaded(self) -> list[str]:
        """Models whose process serves."""
        return [model.name for model in self._loader.models.values() if model.address is not None]

    def progress(self) -> list[Progress]:
        """Of what is wanted and is to be tried again; the rest is the fetcher's to tell."""
        return self._wanted.progress()

    async def wake(self, upstream_id: str) -> Address | None:
        """Fetch the model where that has to be, load it, or wait with others for what is under way; None: not ours."""
        if upstream_id not in self._made_of and upstream_id not in self._absent:
            return None
        stored = self._made_of.get(upstream_id)
        if stored is not None and stored.shared:
            await self._stale.see_to(stored, self._registry.nodes[upstream_id])
        if upstream_id not in self._made_of:
            await self._have(upstream_id)
        return await self._loader.load(self._loader.models[upstream_id])

    async def check(self, upstream_id: str) -> None:
        """Replace the process if it does not answer; either way the upstream can be used again after it."""
        model = self._loader.models.get(upstream_id)
        if model is not None:
            await model.supervisor.check()
        if model is not None or upstream_id in self._absent:
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
        self._stale.served()
        self._report(upstream_id)

    def find(self, model: str) -> StoredModel | None:
        """What is listed and stored under this name."""
        return self._made_of.get(upstream_of(model))

    # -- what there is

    async def rescan(self) -> None:
        """List what is stored now: whoever has put it there is done."""
        await self._look(at_once=True)

    def offered(self) -> None:
        """The router offers other models than before."""
        self._look_now.set()

    def fetching(self) -> None:
        """A model begins to be fetched, or is fetched no more."""
        for name in self._absent:
            self._report(name)

    async def look(self) -> None:
        """List what has come into the store, and forget what has gone from it (requirement C8).

        A file is taken when two looks saw it alike, so that one which is still being copied is not, and likewise said
        to be no good; a model that is gone goes when nobody uses it.
        """
        await self._look(at_once=False)

    async def _look(self, *, at_once: bool) -> None:
        async with self._one_look:
            last, self._last = self._last, await asyncio.to_thread(self._stock.look, self._offers())
            self._tell_refused({p: why for p, why in self._last.refused.items() if last.refused.get(p) == why})
            sure = {i: m for i, m in self._last.stored.items() if at_once or last.stored.get(i) == m}
            if await self._settle(replace(self._last, stored=sure)):
                self._changed()

    async def _keep_looking(self) -> None:
        while True:
            await heard(self._look_now, SCAN_EVERY)  # directories have no event that every platform can await
            await self.look()
            self.fetching()

    def _tell_refused(self, refused: Mapping[Path, str]) -> None:
        """Each once."""
        for path, reason in refused.items():
            if self._told.get(path) != reason:
                self._told[path] = reason
                self._log.warning("model.skipped", path=str(path), reason=reason)

    def _offers(self) -> dict[str, Offer]:
        return self._fetcher.offers.current if self._fetcher is not None else {}

    async def _settle(self, sure: Look) -> bool:
        """List what is there for sure, and what is offered; forget what is gone. Whether anything is other now."""
        offered = {upstream_of(i): model for i, model in sure.offered.items()}
        there = {upstream_of(i) for i in self._last.stored}
        changed = False
        for model in sure.stored.values():
            changed |= await self._take(upstream_of(model.id), model)
        for name in self._made_of.keys() - there:
            changed |= await self._lose(name, offered.get(name))
        for name in offered.keys() - self._made_of.keys():
            changed |= self._offer(name, offered[name])
        for name in self._absent.keys() - offered.keys() - there:
            changed |= self._withdraw(name)
        self._see_to_wanted()
        return changed

    def _see_to_wanted(self) -> None:
        absent = {model.id: name for name, model in self._absent.items()}
        stored = {model.id for model in self._made_of.values()}
        interrupted = self._fetcher.interrupted if self._fetcher is not None else frozenset()
        self._wanted.settle(self._offers(), absent, stored, interrupted)

    async def _take(self, name: str, stored: StoredModel) -> bool:
        """It is stored, or its files are others than before."""
        model = self._loader.models.get(name)
        if self._made_of.get(name) != stored:
            if model is not None and not self._is_unused(model):
                return False
            self._absent.pop(name, None)
            self._made_of[name] = stored
            await self._make(model, self._cook.recipe(self._board.upstream(stored), stored), stored)
        return self._board.tell(stored, self._offers().get(stored.id), stored=True)

    async def _make(self, model: Model | None, recipe: Recipe, stored: StoredModel) -> None:
        """Have it loaded from these files from now on."""
        event = "model.added" if model is None else "model.changed"
        self._log.info(event, model=stored.id, path=str(stored.path))
        if model is None:
            upstream = self._board.upstream(stored)
            self._loader.models[upstream.id] = Model(upstream, recipe)
        else:
            await self._loader.remake(model, recipe)
            self._registry.relocate(model.id, None)

    async def _lose(self, name: str, offered: StoredModel | None) -> bool:
        """Its files are gone; the router may offer it."""
        model = self._loader.models[name]
        if not self._is_unused(model):
            return False
        self._log.info("model.removed", model=model.name)
        del self._made_of[name]
        if offered is None:
            self._registry.remove(name)
        else:
            self._registry.relocate(name, None)
            self._offer(name, offered)
        await self._loader.remove(model)
        return True

    def _offer(self, name: str, model: StoredModel) -> bool:
        """It could be fetched."""
        self._absent[name] = model
        return self._board.tell(model, self._offers().get(model.id), stored=False)

    def _withdraw(self, name: str) -> bool:
        """It can be fetched no more; whoever waits for it is told by the fetcher."""
        gone = self._board.withdraw(name)
        if gone:
            del self._absent[name]
        return gone

    def _is_unused(self, model: Model) -> bool:
        return self._stale.is_unused(model.upstream) and not model.waiting

    # -- what is not here, or not as it was

    async def _have(self, upstream_id: str) -> None:
        """Fetch an offered model.

        Raises:
            UpstreamFailed: it could not be had, or cannot run here; the message says why.
        """
        absent = self._absent.get(upstream_id)
        if absent is None or self._fetcher is None:
            raise UpstreamFailed(f"{upstream_id} is gone from this node")
        try:
            await self._fetcher.get(absent.id)
        except RouterError as error:
            raise UpstreamFailed(error.message) from error
        if upstream_id not in self._made_of:
            reason = _reason(self._last.refused, path_below(self._store.directory, absent.id))
            raise UpstreamFailed(f"{absent.id} was fetched and cannot run here: {reason}")

    def _report(self, name: str) -> None:
        """Have the registry know how far the fetching is."""
        absent = self._absent.get(name)
        if absent is not None and self._fetcher is not None:
            self._board.report(name, [step for step in self._fetcher.progress() if step.name == absent.id])

    # -- one model

    async def _preload(self) -> None:
        """One after another: they would only wait for the same disk."""
        for name in self._config.preload:
            await self._load_ahead(name.strip().lower())

    async def _load_ahead(self, name: str) -> None:
        model = self._loader.models.get(upstream_of(name))
        if model is None:
            self._log.warning("model.not_preloaded", model=name, reason="it is not stored here, or cannot run here")
            return
        with contextlib.suppress(RouterError):  # it is logged, and other models may well run
            await self._loader.load(model)

    def _on_moved(self, upstream_id: str, address: Address | None) -> None:
        """Its process serves, or has ended by itself."""
        stored = self._made_of.get(upstream_id)
        if stored is not None and not stored.shared:
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


def _reason(refused: Mapping[Path, str], stem: Path) -> str:
    """Why what lies at `stem`, with whatever suffix, is no model."""
    found = (why for path, why in refused.items() if path.parent == stem.parent and path.name.startswith(stem.name))
    return next(found, "its files are no model")
