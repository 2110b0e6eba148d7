"""How much dearer than nginx a router of ours may be, for CI to say no."""

from collections.abc import Mapping

from bench.data_plane.results import NGINX, Kind, Results
from bench.data_plane.subjects import OURS

WORDS: dict[Kind, str] = {"unary": "an answer in one piece", "stream": "a stream", "paced": "a paced answer"}


def complaints(results: Results, limits: Mapping[Kind, float]) -> list[str]:
    """A line for each kind whose processor time, the median of the rounds' ratios to nginx's, is over its limit."""
    ratios = {row.kind: row.ratio for row in results.medians if row.subject == OURS}
    return [line for kind, most in limits.items() if (line := _complaint(kind, ratios.get(kind), most))]


def _complaint(kind: Kind, ratio: float | None, most: float) -> str | None:
    if ratio is None:
        return f"{WORDS[kind]} was not measured beside {NGINX}"
    if ratio <= most:
        return None
    return f"{WORDS[kind]} costs {OURS} {ratio:.2f} times the processor time of {NGINX}; the limit is {most:g}"
