"""Loads models into memory and unloads them, as `residency.py` decides.

Room is made for one model after another, in the order in which they were asked for, as in Ollama's scheduler. Where
models in use leave none, the request waits for one of them to become idle. Once it has waited for PATIENCE, they get
no new requests until there is room: nobody waits for ever beside a model that is never quite idle. Their own new
requests wait in the node's queue meanwhile.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from llm_router.contract import Address
from llm_router.core.node import Node
from llm_router.errors import QueueTimeout, UpstreamFailed
from llm_router.node.runtimes.llamacpp import residency
from llm_router.node.runtimes.llamacpp.residency import Held
from llm_router.node.runtimes.process import OutOfMemory
from llm_router.node.runtimes.supervisor import Supervisor
from llm_router.wire.wishes import Wishes

PATIENCE = 10.0  # seconds; shorter, and two models that are asked for at once would spend their time being loaded
LOOK_EVERY = 1.0  # seconds between looks while somebody waits for room; the end of a request is heard of at once
LOOK_AT_LEAST = 3600.0  # seconds between looks at what is unused, so that "for ever" is no timer's concern
RETRY_AFTER = 10  # seconds that a client is told to wait where models in use leave no room: about what an answer takes


class Recipe(Struct, frozen=True):
    """How a model is run.

    `context`: tokens for each request, unless one asks for more; `most`: tokens that it was made for; `need`: bytes
    that it takes with so many; `make`: makes what runs it with so many.
    """

    context: int
    most: int
    need: Callable[[int], int]
    make: Callable[[int], Supervisor]


class Model:
    """A stored model, in memory or not, and its upstream."""

    def __init__(self, upstream: Node, recipe: Recipe) -> None:
        """Nothing is started yet. `upstream`: where requests to it are counted."""
        self.upstream = upstream
        self.follow(recipe)
        self.wanted = self.context  # for the next load, or the present one
        self.keep: float | None = None  # seconds that it stays unused, where a request said so
        self.supervisor = self.make(self.context)
        self.made_for = self.context
        self.takes = 0  # bytes, while it is held
        self.since = 0.0  # when it was loaded
        self.waiting = 0  # callers of `Loader.load`
        self.has_room = False  # its memory is counted, and it is being loaded
        self.loading: asyncio.Task[Address] | None = None
        self.ending: asyncio.Task[None] | None = None
        self._slots = upstream.slots

    @property
    def id(self) -> str:
        """Its upstream's."""
        return self.upstream.id

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.upstream.name

    @property
    def address(self) -> Address | None:
        """Where it serves, if it does."""
        return self.supervisor.address

    @property
    def is_held(self) -> bool:
        """It takes memory, or is about to."""
        ends = self.ending is not None and not self.ending.done()
        return self.has_room or ends or self.supervisor.exists

    @property
    def is_idle(self) -> bool:
        """Nobody waits for it, or for an answer of it."""
        return not self.upstream.in_flight and not self.waiting

    def follow(self, recipe: Recipe) -> None:
        """From its next start on, it is run so."""
        self.context = recipe.context
        self.most = recipe.most
        self.need = recipe.need
        self.make = recipe.make

    def renew(self, context: int) -> None:
        """Have it run with so much context from its next start; it does not run."""
        self.supervisor = self.make(context)
        self.made_for = context

    def close(self) -> None:
        """It gets no new requests: they wait in the queue."""
        self.upstream.resize(0)

    def open(self) -> None:
        """It gets new requests again."""
        self.upstream.resize(self._slots)


class Loader:
    """All models of one runtime, and the memory that they share."""

    def __init__(
        self,
        budget: float,
        keep_alive: float,
        patience: float,
        log: FilteringBoundLogger,
        unloaded: Callable[[Model], None],
    ) -> None:
        """Say how much there is.

        Args:
            budget: bytes that models in memory may take together.
            keep_alive: seconds that a model stays unused.
            patience: seconds that a request waits for room.
            log: for what is unloaded, and why.
            unloaded: called when a model is on its way out of memory.
        """
        self.models: dict[str, Model] = {}  # by id
        self.budget = budget
        self._keep_alive = keep_alive
        self._patience = patience
        self._log = log
        self._unloaded = unloaded
        self._one_after_another = asyncio.Lock()
        self._room = asyncio.Event()  # there may be some
        self._clean = asyncio.Event()  # something may be to be unloaded
        self._cleaning: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to unload what is unused for long enough."""
        self._cleaning = asyncio.create_task(self._keep_clean())

    async def stop(self) -> None:
        """End every process and wait for it; who waits for one that is starting, or for room, gets UpstreamFailed."""
        self._closed = True
        self._tell()
        if self._cleaning is not None:
            self._cleaning.cancel()
        await asyncio.gather(*map(_end, self.models.values()))

    # -- what the runtime asks for

    async def load(self, model: Model) -> Address:
        """Where it serves. Loads it where it is not in memory; several callers share one load.

        Raises:
            UpstreamFailed: it could not be loaded; the message says why.
            QueueTimeout: models in use left no room for it in time.
        """
        if model.address is not None:
            return model.address
        model.waiting += 1
        try:
            return await self._loaded(model)
        finally:
            model.waiting -= 1

    def unload(self, model: Model, reason: str) -> None:
        """Take it out of memory; it must be idle. Its next request loads it again."""
        self._log.info("model.unloaded", model=model.name, reason=reason)
        model.ending = asyncio.create_task(self._ended(model.supervisor))
        model.wanted, model.keep = model.context, None
        model.renew(model.context)
        self._unloaded(model)

    def wish(self, model: Model, wishes: Wishes) -> None:
        """What a request asks for that is in flight on it. More context is had at once if nobody else uses the model.

        Where others do, the request makes do with what there is.
        """
        keep = model.keep if wishes.keep_alive is None else wishes.keep_alive
        if wishes.context > model.wanted:
            if model.address is not None and model.upstream.in_flight <= 1 and not model.waiting:
                self.unload(model, f"a request wants {wishes.context} tokens of context")
            if model.address is None and not model.has_room:
                model.wanted = wishes.context
        if keep != model.keep:
            model.keep = keep
            self._clean.set()

    def served(self, model: Model) -> None:
        """A request to it has ended: somebody may wait for its memory, or it is not to stay."""
        if model.is_idle and (self._one_after_another.locked() or not self._keep(model)):
            self._tell()

    async def remake(self, model: Model, new: Recipe) -> None:
        """Its files are others now: its next request loads these. Nobody uses it."""
        if model.loading is not None:
            await asyncio.wait({model.loading})
        model.follow(new)
        if model.supervisor.exists:
            self.unload(model, "its files have changed")
        else:
            model.renew(model.context)

    async def remove(self, model: Model) -> None:
        """Forget it, and end its process."""
        del self.models[model.id]
        self._tell()
        await _end(model)

    # -- a load

    async def _loaded(self, model: Model) -> Address:
        if model.loading is None:
            model.loading = asyncio.create_task(self._load(model))
            model.loading.add_done_callback(lambda task: _forget(model, task))
        loading = model.loading
        await asyncio.wait({loading}, timeout=self._patience)
        if not loading.done() and not model.has_room:
            raise QueueTimeout(
                f"models in use left no memory for '{model.name}' within {self._patience:g} s: "
                f"ask again in {RETRY_AFTER} s",
                retry_after=RETRY_AFTER,
            )
        return await asyncio.shield(loading)  # one caller who goes away must not end it for the others

    async def _load(self, model: Model) -> Address:
        try:
            async with self._one_after_another:
                await self._make_room(model)
            if model.ending is not None:
                await asyncio.wait({model.ending})
            return await self._start(model)
        finally:
            model.has_room = False
            self._tell()

    async def _make_room(self, model: Model) -> None:
        """Have its memory counted, and whatever has to go for it gone."""
        gone = await self._wait_for_room(model)
        for other in gone:
            self.unload(other, f"to make room for {model.name}")
        model.has_room = True
        if model.made_for != model.wanted:
            model.renew(model.wanted)
        await _wait_for_ends(gone)

    async def _wait_for_room(self, model: Model) -> list[Model]:
        """Wait until it fits beside what is in use; which others have to go.

        Raises:
            UpstreamFailed: it never fits, or nobody waits for it any more.
        """
        begin = time.monotonic()
        closed: list[Model] = []
        try:
            while True:
                self._measure(model)
                held = self._held(model)
                gone = residency.victims(model.takes, self.budget, held)
                if gone is not None:
                    return self._named(gone)
                if not closed and time.monotonic() - begin >= PATIENCE:
                    closed = self._named(residency.closing(model.takes, self.budget, held))
                    for other in closed:
                        other.close()
                await heard(self._room, LOOK_EVERY)
        finally:
            for other in closed:
                other.open()

    def _measure(self, model: Model) -> None:
        """How much it takes: with the context that was asked for, or if that never fits, with the usual one."""
        if self._closed or self.models.get(model.id) is not model or not model.waiting:
            raise UpstreamFailed(f"{model.name} is not loaded: this node is stopping, or nobody waits for it any more")
        model.takes = model.need(model.wanted)
        if model.takes > self.budget:
            model.wanted = model.context
            model.takes = model.need(model.wanted)
        if model.takes > self.budget:
            raise UpstreamFailed(
                f"{model.name} cannot be loaded: it takes {model.takes / 1e9:.1f} GB of memory, "
                f"and models may take {self.budget / 1e9:.1f} GB here"
            )

    async def _start(self, model: Model) -> Address:
        try:
            address = await model.supervisor.wake()
        except OutOfMemory as error:
            others = [m for m in self.models.values() if m is not model and m.is_idle and m.address is not None]
            if not others:
                raise
            self._log.warning("model.out_of_memory", model=model.name, reason=error.message)
            for other in others:
                self.unload(other, f"memory ran out while {model.name} was being loaded")
            await _wait_for_ends(others)
            address = await model.supervisor.wake()
        model.since = time.monotonic()
        return address

    # -- unloads

    async def _keep_clean(self) -> None:
        while True:
            now = time.monotonic()
            for model in self._named(residency.expired(self._held(), now)):
                self.unload(model, f"unused for {self._keep(model):g} s")
            await heard(self._clean, min(LOOK_AT_LEAST, residency.next_look(self._held(), now)))

    async def _ended(self, supervisor: Supervisor) -> None:
        await supervisor.end()
        self._tell()

    # -- what is in memory

    def _held(self, without: Model | None = None) -> list[Held]:
        return [self._facts(m) for m in self.models.values() if m.is_held and m is not without]

    def _facts(self, model: Model) -> Held:
        return Held(
            model.id,
            model.takes,
            used=max(model.since, model.upstream.used.get(model.name, 0.0)),
            keep=self._keep(model),
            idle=model.is_idle,
            movable=model.address is not None,
        )

    def _keep(self, model: Model) -> float:
        return self._keep_alive if model.keep is None else model.keep

    def _named(self, ids: Iterable[str]) -> list[Model]:
        return [self.models[i] for i in ids]

    def _tell(self) -> None:
        self._room.set()
        self._clean.set()


async def heard(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but not for longer."""
    with contextlib.suppress(TimeoutError):
        # Not `wait_for`: before Python 3.12 it can swallow a cancellation that comes with the event.
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()


async def _wait_for_ends(models: Iterable[Model]) -> None:
    ends = {model.ending for model in models if model.ending is not None}
    if ends:
        await asyncio.wait(ends)


async def _end(model: Model) -> None:
    await model.supervisor.end()
    pending = {task for task in (model.ending, model.loading) if task is not None}
    if pending:
        await asyncio.wait(pending)


def _forget(model: Model, task: asyncio.Task[Address]) -> None:
    model.loading = None
    if not task.cancelled():
        task.exception()  # seen, also when every caller went away
