"""How one machine behaves: slots, memory for some models, loading, prefill, decode and a prefix cache.

It behaves as Ollama does: who comes first is let in first, and nobody overtakes a request that waits for room in
memory; one model is loaded at a time; the model that was idle longest makes room, one in use never does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

import msgspec

PIECE = 16  # tokens sent at once after the first one: Python must not be the bottleneck
Emit = Callable[[int], Awaitable[None]]


class Spec(msgspec.Struct, frozen=True):
    """What a machine can do, in seconds of the trace: rates in tokens/s per request, `load` in seconds.

    `slots` requests are answered at once, and there is memory for `holds` models.
    """

    name: str
    prefill: float
    decode: float
    slots: int
    holds: int
    load: float


class Part(msgspec.Struct, frozen=True):
    """One message of a prompt: `key` is the same for the same text."""

    key: int
    tokens: int


class Ask(msgspec.Struct, frozen=True):
    """What a machine is to do."""

    model: str
    prompt: tuple[Part, ...]
    answer: Part


class Times(msgspec.Struct, frozen=True):
    """How long it took, in seconds of the wall, from the moment it was let in; `total` counts from its arrival."""

    load: float
    prefill: float
    decode: float
    total: float


class Stats(msgspec.Struct):
    """What a machine has done since it was made."""

    loads: int = 0
    served: int = 0
    cancelled: int = 0
    reused: int = 0  # tokens that the prefix cache saved


class Cache:
    """One slot's memory of what it served last."""

    def __init__(self) -> None:
        self.parts: tuple[Part, ...] = ()
        self.busy = False
        self.used = 0

    def shared(self, prompt: Sequence[Part]) -> int:
        """Tokens at the beginning of `prompt` that are here already."""
        total = 0
        for mine, theirs in zip(self.parts, prompt, strict=False):
            if mine != theirs:
                break
            total += mine.tokens
        return total


class Resident:
    """A model in memory, or on its way there until `loading` is done."""

    def __init__(self, slots: int, loading: asyncio.Task[None]) -> None:
        self.caches = [Cache() for _ in range(slots)]
        self.loading = loading
        self.users = 0
        self.used = 0

    def is_idle(self) -> bool:
        """Whether it may be unloaded."""
        return not self.users and self.loading.done()

    def take(self, prompt: Sequence[Part], turn: int) -> Cache:
        """The free slot that knows most of `prompt`; if none knows any, the one unused longest. The caller frees it."""
        cache = max((c for c in self.caches if not c.busy), key=lambda c: (c.shared(prompt), -c.used))
        cache.busy = True
        cache.used = turn
        return cache


class Machine:
    """One machine. Its times are divided by `scale`; after the first token it sends `piece` at once."""

    def __init__(self, spec: Spec, scale: float, piece: int = PIECE) -> None:
        self.spec = spec
        self.stats = Stats()
        self._scale = scale
        self._piece = piece
        self._door = asyncio.Lock()  # fair: first come, first served
        self._loader = asyncio.Lock()
        self._changed = asyncio.Event()  # only who stands in the door waits for it
        self._residents: dict[str, Resident] = {}
        self._running = 0
        self._turn = 0

    @property
    def loaded(self) -> list[str]:
        """The models that can answer at once."""
        return [name for name, resident in self._residents.items() if resident.loading.done()]

    async def serve(self, ask: Ask, emit: Emit) -> Times:
        """Answer; `emit` is given the number of tokens as they are made. May be cancelled at any time."""
        arrived = _now()
        resident = await self._enter(ask.model)
        try:
            times = await self._answer(ask, resident, emit, arrived)
        except (asyncio.CancelledError, ConnectionError):
            self.stats.cancelled += 1
            raise
        finally:
            self._leave(resident)
        self.stats.served += 1
        return times

    def close(self) -> None:
        """End what is being loaded."""
        for resident in self._residents.values():
            resident.loading.cancel()

    # -- in and out

    async def _enter(self, model: str) -> Resident:
        async with self._door:
            await self._until(lambda: self._running < self.spec.slots)
            resident = self._residents.get(model)
            if resident is None:
                await self._until(self._has_place)
                resident = self._begin_load(model)
            resident.users += 1
            self._running += 1
            self._turn += 1
            return resident

    def _leave(self, resident: Resident) -> None:
        self._turn += 1
        resident.used = self._turn
        resident.users -= 1
        self._running -= 1
        self._changed.set()

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._changed.clear()
            await self._changed.wait()

    def _has_place(self) -> bool:
        return len(self._residents) < self.spec.holds or any(r.is_idle() for r in self._residents.values())

    def _begin_load(self, model: str) -> Resident:
        if len(self._residents) >= self.spec.holds:
            idle = (name for name, resident in self._residents.items() if resident.is_idle())
            del self._residents[min(idle, key=lambda name: self._residents[name].used)]
        self.stats.loads += 1
        resident = Resident(self.spec.slots, asyncio.create_task(self._load()))
        self._residents[model] = resident
        return resident

    async def _load(self) -> None:
        async with self._loader:
            await self._spend(self.spec.load)
        self._changed.set()

    # -- at work

    async def _answer(self, ask: Ask, resident: Resident, emit: Emit, arrived: float) -> Times:
        began = _now()
        await asyncio.shield(resident.loading)  # who gives up does not stop it for the others
        ready = _now()
        cache = resident.take(ask.prompt, self._turn)
        try:
            await self._prefill(ask, cache)
            read = _now()
            await self._decode(ask.answer.tokens, emit)
            cache.parts += (ask.answer,)
        finally:
            cache.busy = False
        end = _now()
        return Times(load=ready - began, prefill=read - ready, decode=end - read, total=end - arrived)

    async def _prefill(self, ask: Ask, cache: Cache) -> None:
        known = cache.shared(ask.prompt)
        self.stats.reused += known
        cache.parts = ()
        await self._spend((sum(part.tokens for part in ask.prompt) - known) / self.spec.prefill)
        cache.parts = ask.prompt

    async def _decode(self, tokens: int, emit: Emit) -> None:
        began = _now()
        done = 0
        for end in _pieces(tokens, self._piece):
            await self._spend(end / self.spec.decode, began)  # from the beginning, so that late wake-ups do not add up
            await emit(end - done)
            done = end

    async def _spend(self, seconds: float, since: float | None = None) -> None:
        """Let seconds of the trace pass, counted from `since` on the wall's clock or from now."""
        left = seconds / self._scale if since is None else since + seconds / self._scale - _now()
        await asyncio.sleep(max(left, 0.0))  # noqa: TID251 - the time that a machine takes


def _now() -> float:
    return asyncio.get_running_loop().time()


def _pieces(tokens: int, piece: int) -> Iterator[int]:
    """How many tokens are there after each piece: one, so that the first is seen when it is made, then `piece` more."""
    yield from range(1, tokens, piece)
    yield tokens
