"""Which models stay in memory, and which have to go: the decisions, without doing any of it.

    a model is asked for and is not in memory:
    1  what is free suffices                              -> load it
    2  with what nobody uses, it would                    -> unload of that the least recently used, as few as suffice
    3  it would with some that are in use                 -> wait; those are never unloaded
    4  it would not with all of them                      -> it can never be loaded

    a model that nobody has used for as long as it shall stay -> unload it

Sizes in bytes, times in seconds on one clock; what is on its way in or out counts as held.
"""

import math
from collections.abc import Iterable, Sequence
from operator import attrgetter

from msgspec import Struct

LOOK_EVERY = 1.0  # seconds between looks at a model in use, at least


class Held(Struct, frozen=True):
    """A model that takes memory: `need` bytes. `idle`: it serves, and nobody uses it; `used`: when it was used last.

    `movable`: it serves, so that it can be unloaded as soon as it is idle; `keep`: seconds that it stays unused.
    """

    id: str
    need: int
    used: float
    keep: float = math.inf
    idle: bool = True
    movable: bool = True

    @property
    def expires(self) -> float:
        """When it has stayed unused for long enough."""
        return self.used + self.keep


def victims(need: int, budget: float, held: Sequence[Held]) -> list[str] | None:
    """Which to unload so that `need` bytes more fit into `budget` (1, 2); None: not now (3, 4)."""
    return _fewest(need, budget, held, [h for h in held if h.idle and h.movable])


def closing(need: int, budget: float, held: Sequence[Held]) -> list[str]:
    """Which models have to become idle so that `need` bytes more fit: the least recently used, in use or not (3)."""
    return _fewest(need, budget, held, [h for h in held if h.movable]) or []


def expired(held: Iterable[Held], now: float) -> list[str]:
    """Which have been unused for as long as they shall stay."""
    return [h.id for h in held if h.idle and h.movable and h.expires <= now]


def next_look(held: Iterable[Held], now: float) -> float:
    """Seconds until the next of them can have expired; infinity: none ever will.

    One that is in use can be idle from now on. (The end of a request to one that stays for no time is heard of.)
    """
    soonest = (h.expires if h.idle else now + max(h.keep, LOOK_EVERY) for h in held if h.movable)
    return max(0.0, min(soonest, default=math.inf) - now)


def _fewest(need: int, budget: float, held: Sequence[Held], candidates: Sequence[Held]) -> list[str] | None:
    """Of the candidates the least recently used, until enough is free; then those are spared that were not needed."""
    missing = need + sum(h.need for h in held) - budget
    chosen: list[Held] = []
    for candidate in sorted(candidates, key=attrgetter("used")):
        if missing <= 0:
            break
        chosen.append(candidate)
        missing -= candidate.need
    if missing > 0:
        return None
    for spared in reversed(chosen.copy()):
        if missing + spared.need <= 0:
            chosen.remove(spared)
            missing += spared.need
    return [h.id for h in chosen]
