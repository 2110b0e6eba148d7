"""What may come of a trouble: which requests need not be answered, and why. Pure.

Rule 1: a request is answered as long as one process that has its model is there, whatever befalls the others.
Rule 2: an answer that has begun is lost with the process that gives it, if that is killed; nothing else breaks one.
Rule 3: while a router is away its clients get no connection, and come again; when it is back all come at once, and it
may ask some of them to come later. Nobody else ever has to, and so nobody who asks another replica.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
from tests.doubles.rough_clients import Ending, Kind

What = Literal["killed", "goodbye", "restarted"]

ROUTER = "router"  # the first of several, or the only one
CROWDED = 10.0  # seconds after a restart of the router in which whoever waited for it has come


class Outage(msgspec.Struct, kw_only=True):
    """A process that is away, in seconds of the run.

    From `began` on; at `gone` it has certainly ended; at `ended` it is back: the router has it online with its models,
    and the router, when it has every node so.
    """

    name: str
    what: What
    began: float
    gone: float = math.inf
    ended: float = math.inf

    def meets(self, asked: float, over: float) -> bool:
        """Whether a request's life and this have a moment in common."""
        return self.began <= over and asked <= self.ended

    def ends(self, asked: float, over: float) -> bool:
        """Whether the process was killed in a request's life."""
        return self.what == "killed" and self.began <= over and asked <= self.gone


class Life(msgspec.Struct, frozen=True):
    """A request, as far as it counts here.

    `holders`: who has its model; `asked`, `over`: seconds of the run; `router`: the one that was asked.
    """

    kind: Kind
    leaves: bool
    stream: bool
    holders: Sequence[str]
    asked: float
    over: float
    router: str = ROUTER


def expected(life: Life, outages: Sequence[Outage]) -> bool:
    """Whether a request may end like this."""
    met = [outage for outage in outages if outage.meets(life.asked, life.over)]
    away = {outage.name for outage in met}
    match life.kind:
        case "answered":
            return True
        case "left":
            return life.leaves
        case "refused":  # nobody is left to ask; or the answer was in one piece, and is lost with who gave it
            return life.router in away or away.issuperset(life.holders) or _cut(life, met)
        case "broken":
            return life.stream and _cut(life, met)
        case "lost":
            return life.router in away
        case "wrong":
            return False


def _cut(life: Life, outages: Sequence[Outage]) -> bool:
    return any(outage.name in life.holders and outage.ends(life.asked, life.over) for outage in outages)


def comes_again(ending: Ending, now: float, outages: Sequence[Outage], router: str = ROUTER) -> bool:
    """Whether a client of a router asks again, as client libraries do, because that restarts or has just done so."""
    restarts = [outage for outage in outages if outage.name == router and outage.began <= now]
    if ending.kind == "lost":
        return any(now <= outage.ended for outage in restarts)
    busy = ending.kind == "refused" and ending.why.startswith("429")
    return busy and any(now <= outage.ended + CROWDED for outage in restarts)
