"""Which nodes shall have which model: what operators asked for, kept so as nodes come and go (requirement H6).

For each model with a standing wish, nodes are taken in this order until there are as many as were asked for:

    1 those that are pinned, be there as many as there are, and whether or not they are here now
    2 those that have it
    3 those that are fetching it
    4 those that were to have it before
    5 others that could run it: who was given least so far, then who has most room

A node that went away counts as here for GRACE. Then another takes its place; when it is back with its copy, that one
counts (2), and no more than were asked for are wanted. Nothing is ever deleted for this.

No clock, no I/O: `now` is passed, in seconds on any one clock.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec

GRACE = 60.0  # seconds: a machine that restarts, an agent that is upgraded


class Wish(msgspec.Struct, frozen=True):
    """A model that shall lie on `nodes` nodes, those `pinned` among them."""

    model: str
    nodes: int
    pinned: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True):
    """A node. `away`: since when it has not been here, None where it is; `room`: bytes that it could spare.

    `listed`: models that it could run; of those, `has` are stored there, and `fetching` on their way.
    """

    id: str
    listed: Collection[str] = ()
    has: Collection[str] = ()
    fetching: Collection[str] = ()
    room: int = 0
    away: float | None = None


Wanted = Mapping[str, frozenset[str]]  # model -> ids of the nodes that shall have it


def place(wishes: Iterable[Wish], places: Collection[Place], before: Wanted, now: float) -> dict[str, frozenset[str]]:
    """Who shall have what. `before`: what this said the last time."""
    here = [place for place in places if place.away is None or now - place.away < GRACE]
    known = {place.id for place in places}
    given = dict.fromkeys(known, 0)
    wanted: dict[str, frozenset[str]] = {}
    for wish in wishes:
        pinned = [node for node in dict.fromkeys(wish.pinned) if node in known]
        others = [p for p in here if p.id not in pinned and wish.model in p.listed]
        earlier = before.get(wish.model, frozenset())
        others = [p for p in others if _may_count(p, wish.model, earlier)]
        others.sort(key=lambda p: _rank(p, wish.model, earlier, given[p.id]))
        chosen = frozenset([*pinned, *(p.id for p in others[: max(0, wish.nodes - len(pinned))])])
        for node in chosen:
            given[node] += 1
        wanted[wish.model] = chosen
    return wanted


def _may_count(place: Place, model: str, earlier: frozenset[str]) -> bool:
    """Who is away is waited for, where it has the model or was to have it, and not asked for anything new."""
    return place.away is None or model in place.has or place.id in earlier


def _rank(place: Place, model: str, earlier: frozenset[str], given: int) -> tuple[bool, bool, bool, int, int, str]:
    """The lowest is taken first."""
    was = place.id in earlier
    return model not in place.has, model not in place.fetching, not was, given, -place.room, place.id
