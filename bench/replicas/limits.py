"""`python -m bench.replicas.limits`: where the limits lie, calculated from what single things cost. Pure.

It prints the tables of docs/scale.md, which a test compares with it.
"""

from collections.abc import Iterator, Sequence

import click
import msgspec

from llm_router.contract import HEARTBEAT_EVERY
from llm_router.router.following import counting, tables
from llm_router.router.replicas.bus import TOGETHER
from llm_router.router.replicas.messages import LONGEST
from llm_router.router.store.postgres import CONNECTIONS

NODES = (100, 1000, 10_000)
REPLICAS = (1, 10, 100)
WHOLE = counting.EVERY * counting.WHOLE_EVERY  # seconds between two messages that tell of all nodes
US = 1e6
BUSY = 1.0  # requests a second of each node, in the last two columns

Rates = Sequence[tuple["Cost", float]]  # and how often a second


class Cost(msgspec.Struct, frozen=True):
    """µs: of a replica that tells, of each other that hears, of PostgreSQL's, and of it for each that hears.

    `size`: bytes.
    """

    here: float
    there: float
    postgres: float
    postgres_there: float
    size: float


class Units(msgspec.Struct, frozen=True):
    """What single things cost. µs of a replica or of PostgreSQL."""

    alone: float  # a replica without nodes, each second
    letter: Cost
    heartbeat: Cost  # in a letter with others; `here`: from its request to its row
    told: Cost  # what one node's counts add to a letter
    seen: float  # PostgreSQL's, for a heartbeat's row
    own: float  # for each node, four times a second
    silence: float  # for each node, each second
    read: float  # for each node's row that is read again
    read_postgres: float  # likewise PostgreSQL's
    record: float  # PostgreSQL's, for a request's record


# As docs/scale.md tells, where it also says how each was measured.
MEASURED = Units(
    alone=4300,
    letter=Cost(here=680, there=130, postgres=220, postgres_there=60, size=100),
    heartbeat=Cost(here=1200, there=70, postgres=3, postgres_there=1, size=380),
    told=Cost(here=0.7, there=1.2, postgres=0.4, postgres_there=0.2, size=52),
    seen=65,
    own=0.7,
    silence=0.3,
    read=43,
    read_postgres=3,
    record=30,
)


class Load(msgspec.Struct, frozen=True):
    """Each second: shares of one core, and what goes through PostgreSQL. `busy`: of its time, where nodes are asked.

    Each node is asked once a second then, whose start and end are told.
    """

    nodes: int
    replicas: int
    replica: float
    postgres: float
    letters: float
    delivered: float  # bytes, to all that listen
    rows: float
    connections: int
    busy_replica: float
    busy_postgres: float


def load(nodes: int, replicas: int, units: Units = MEASURED) -> Load:
    """What so many nodes and replicas come to."""
    heartbeats, again = nodes / HEARTBEAT_EVERY, nodes / tables.EVERY
    whole = nodes / WHOLE
    letters = _letters(heartbeats / replicas, whole, units)
    told = [(units.letter, letters), (units.heartbeat, heartbeats / replicas), (units.told, whole)]
    replica = units.alone + nodes * (units.own / counting.EVERY + units.silence) + again * units.read
    postgres = heartbeats * units.seen + replicas * again * units.read_postgres
    busy = [(units.told, BUSY * 2 * nodes / replicas)]
    return Load(
        nodes=nodes,
        replicas=replicas,
        replica=(replica + _replica(told, replicas)) / US,
        postgres=(postgres + _postgres(told, replicas)) / US,
        letters=letters * replicas,
        delivered=replicas**2 * sum(rate * one.size for one, rate in told),
        rows=heartbeats,
        connections=replicas * (CONNECTIONS + 1),  # and one that listens
        busy_replica=_replica(busy, replicas) / US,
        busy_postgres=(_postgres(busy, replicas) + BUSY * nodes * units.record) / US,
    )


def _letters(heartbeats: float, whole: float, units: Units) -> float:
    """That one replica sends each second: what comes within TOGETHER of a letter goes with the next one."""
    events = heartbeats + 1 / counting.EVERY
    full = (heartbeats * units.heartbeat.size + whole * units.told.size) / LONGEST  # what does not fit into them
    return max(events / (1 + events * TOGETHER), full)


def _replica(told: Rates, replicas: int) -> float:
    """µs a second of one of them, of which each tells as much."""
    return sum(rate * (one.here + (replicas - 1) * one.there) for one, rate in told)


def _postgres(told: Rates, replicas: int) -> float:
    return replicas * sum(rate * (one.postgres + (replicas - 1) * one.postgres_there) for one, rate in told)


COLUMNS = (
    *("nodes", "replicas", "a replica", "PostgreSQL", "letters/s", "delivered/s", "rows/s", "connections"),
    *("busy: a replica", "PostgreSQL"),
)


def table() -> str:
    """All of them, in Markdown."""
    lines = [list(COLUMNS), ["---:"] * len(COLUMNS), *map(list, map(_cells, _all()))]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _all() -> Iterator[Load]:
    return (load(nodes, replicas) for nodes in NODES for replicas in REPLICAS)


def _cells(one: Load) -> Iterator[str]:
    yield f"{one.nodes:,}"
    yield f"{one.replicas}"
    yield from (_percent(share) for share in (one.replica, one.postgres))
    yield f"{one.letters:,.0f}"
    yield f"{one.delivered / 1e6:,.1f} MB"
    yield f"{one.rows:,.0f}"
    yield f"{one.connections}"
    yield from (f"+ {_percent(share)}" for share in (one.busy_replica, one.busy_postgres))


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %" if share < 0.1 else f"{share * 100:,.0f} %"


@click.command()
def main() -> None:
    """Where do the limits lie?"""
    click.echo(table(), nl=False)


if __name__ == "__main__":
    main(prog_name="python -m bench.replicas.limits")
