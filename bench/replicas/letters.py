"""What it costs to tell the other replicas something, and to be told: with one of them, and with five.

What is more with five is theirs, a quarter of it each; the rest is the teller's, who hears its own letters, too. One
thing is told at a time, as in a fleet that does little; what is told while a letter is on its way goes together.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import aiohttp
import msgspec
from tests.postgres import Cluster

from bench.data_plane.meter import Meter
from bench.replicas.part import REPORT, Part, node_id, part
from bench.replicas.work import REPEATS, Used, Work, measured, middle
from llm_router.core.elsewhere import NODES_TOLD, Counts
from llm_router.router.replicas.messages import LONGEST, Counted, Happened
from llm_router.router.settings import SettingsChange
from llm_router.router.store.queries import Event

FEW, MANY = 1, 5  # others
NODES = 1000
SMALL = 500  # bytes of a letter
BURST = 100  # heartbeats that come at once
AROUND = 150  # bytes of a letter with an event beside the event's detail


class Told(msgspec.Struct, frozen=True):
    """µs each: of the replica that tells, of each other one, of PostgreSQL's for the one, and for each other one."""

    what: str
    here: float
    there: float
    postgres: float
    postgres_there: float


class Round:
    """One who tells, and others; all know NODES nodes."""

    def __init__(self, teller: Part, others: Sequence[Part]) -> None:
        self._teller = teller
        self._others = others
        self._secrets = teller.know(NODES)
        self._turn = count()
        for other in others:
            other.know(NODES)

    def works(self) -> dict[str, Work]:
        """What is told, by its name."""
        full = {node_id(n): (2, 10_000 + n, 100, 0) for n in range(NODES_TOLD)}
        return {
            f"a letter of {SMALL} bytes": self._told(lambda: self._event(SMALL - AROUND)),
            f"a letter of {LONGEST} bytes": self._told(lambda: self._event(LONGEST - AROUND)),
            "a sign of life: counts of no node": self._told(lambda: self._counts({})),
            f"counts of {NODES_TOLD} nodes": self._told(lambda: self._counts(full)),
            "a heartbeat": self._told(self._heartbeat),
            f"{BURST} heartbeats at once": self._told(self._heartbeats),
            "a change of a node's row": self._change,
        }

    def _told(self, tell: Callable[[], object]) -> Work:
        async def work() -> None:
            tell()
            await self._all_heard()

        return work

    async def _all_heard(self) -> None:
        for other in self._others:
            await other.heard.wait()
            other.heard.clear()

    def _event(self, size: int) -> None:
        self._teller.among.send(Happened(Event(1.7e9, "node.online", node_id(1), "machine", "x" * size)))

    def _counts(self, nodes: dict[str, tuple[int, int, int, int]]) -> None:
        self._teller.among.send(Counted(Counts(nodes, {})))

    def _heartbeat(self) -> None:
        id_ = node_id(next(self._turn) % NODES)
        self._teller.fleet.heartbeat(id_, REPORT, self._secrets[id_])

    def _heartbeats(self) -> None:
        for _ in range(BURST):
            self._heartbeat()

    async def _change(self) -> None:
        """Of a setting: the row is written and told of, and the others read it. What is shown of it goes besides."""
        number = next(self._turn)
        for other in self._others:
            other.heard.clear()
        self._teller.fleet.change(node_id(number % NODES), SettingsChange(notes=f"note {number}"))
        await self._teller.ledger.flush()
        await self._all_heard()
        await asyncio.gather(*(self._has_read(other, number) for other in self._others))

    async def _has_read(self, other: Part, number: int) -> None:
        """The event was heard, maybe before the row was read."""
        while other.registry.nodes[node_id(number % NODES)].settings.notes != f"note {number}":
            await other.heard.wait()
            other.heard.clear()


@asynccontextmanager
async def _round(others: int, url: str) -> AsyncIterator[Round]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        parts = [await stack.enter_async_context(part(f"part-{n}", url, session)) for n in range(others + 1)]
        yield Round(parts[0], parts[1:])


async def told(cluster: Cluster, postgres: Meter, say: Callable[[str], None]) -> list[Told]:
    """Everything that is told."""
    say("letters")
    found: dict[str, dict[int, list[Used]]] = {}
    for _ in range(REPEATS):
        for others in (FEW, MANY):
            async with _round(others, cluster.create()) as together:
                for what, work in together.works().items():
                    used = await measured(postgres, work)
                    found.setdefault(what, {}).setdefault(others, []).append(used)
    return [_shared(what, middle(used[FEW]), middle(used[MANY])) for what, used in found.items()]


def _shared(what: str, few: Used, many: Used) -> Told:
    there, postgres = ((a - b) / (MANY - FEW) for a, b in ((many.here, few.here), (many.postgres, few.postgres)))
    return Told(what, few.here - FEW * there, there, few.postgres - FEW * postgres, postgres)
