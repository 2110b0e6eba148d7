"""Which machines there are. Rates are per request, in seconds of the trace, as 8B models run on such hardware."""

from msgspec.structs import replace

from bench.fleet.machine import Spec

LARGE = Spec("large", prefill=3000, decode=70, slots=4, holds=3, load=4)  # a data-centre card
MEDIUM = Spec("medium", prefill=1000, decode=35, slots=2, holds=2, load=8)  # a gaming card
SMALL = Spec("small", prefill=250, decode=12, slots=1, holds=1, load=16)  # a laptop


def several(spec: Spec, count: int) -> list[Spec]:
    """`count` machines of a kind, with names of their own."""
    return [replace(spec, name=f"{spec.name}-{n}") for n in range(1, count + 1)]


FLEETS = {
    "unequal": [*several(LARGE, 2), *several(MEDIUM, 3), *several(SMALL, 3)],
    "equal": several(MEDIUM, 8),
}
