"""How much dearer than nginx a router of ours may be, for CI to say no."""

from collections.abc import Mapping

from bench.data_plane.results import NGINX, Kind, Results
from bench.data_plane.subjects import OURS

WORDS: dict[Kind, str] = {"unary": "an answer in one piece", "stream": "a stream", "paced": "a paced answer"}


def complaints(results: Results, limits: Mapping[Kind, float]) -> list[str]:
    """A line for each kind whose processor time is over its limit, by nginx's, in every round.

    Whatever else a machine has to do makes some rounds dearer; a router that has become dear is so in all of them.
    """
    return [line for kind, most in limits.items() if (line := _complaint(kind, _least(results, kind), most))]


def _least(results: Results, kind: Kind) -> float | None:
    rows = (row for row in results.rounds if row.subject == OURS and row.kind == kind)
    return min((row.ratio for row in rows if row.ratio is not None), default=None)


def _complaint(kind: Kind, ratio: float | None, most: float) -> str | None:
    if ratio is None:
        return f"{WORDS[kind]} was not measured beside {NGINX}"
    if ratio <= most:
        return None
    return f"{WORDS[kind]} costs {OURS} at least {ratio:.2f} times the processor time of {NGINX}; the limit is {most:g}"
