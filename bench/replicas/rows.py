"""What rows cost: reading all nodes again, what they take of memory, the rows of heartbeats, and those of requests."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median

import aiohttp
import msgspec
import psutil
from tests.postgres import Cluster

from bench.data_plane.meter import Meter
from bench.replicas.part import REPORT, Part, node, node_id, part
from bench.replicas.work import REPEATS, Work, measured, middle
from llm_router.contract import Heartbeat
from llm_router.core.registry import Registry
from llm_router.core.usage import RequestRecord
from llm_router.router.following.tables import PAGE
from llm_router.router.ledger import BATCH
from llm_router.router.rows import snapshot
from llm_router.router.store import queries
from llm_router.router.store.queries import News, SeenNode

FLEETS = (1000, 10_000)
MS = 1e3


class Stored(msgspec.Struct, frozen=True):
    """µs of a replica and of PostgreSQL for one row of many; `held`: ms for which its event loop did nothing else."""

    what: str
    here: float
    postgres: float
    held: float


async def stored(cluster: Cluster, postgres: Meter, say: Callable[[str], None]) -> list[Stored]:
    """Everything that is written or read."""
    say("rows")
    found = [one for nodes in FLEETS for one in await _nodes(cluster, postgres, nodes)]
    return [*found, await _requests(cluster, postgres)]


@asynccontextmanager
async def _filled(cluster: Cluster, nodes: int) -> AsyncIterator[Part]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        one = await stack.enter_async_context(part("one", cluster.create(), session))
        one.know(nodes)
        for id_ in one.registry.nodes:
            one.ledger.touch(id_)
        await one.ledger.flush()
        yield one


async def _nodes(cluster: Cluster, postgres: Meter, nodes: int) -> list[Stored]:
    async with _filled(cluster, nodes) as one:
        seen = [_seen(one, id_) for id_ in list(one.registry.nodes)[:1000]]

        async def read() -> None:
            ids = await one.database.run(queries.node_ids)
            for start in range(0, len(ids), PAGE):
                page = ids[start : start + PAGE]
                one.nodes.rows(await one.database.run(queries.load_nodes, page), page)

        async def write() -> None:
            await one.database.run(queries.write, News(seen=seen))

        return [
            await _one(postgres, f"reading all of {nodes} nodes again", nodes, read),
            await _one(postgres, f"the rows of {len(seen)} heartbeats, of {nodes} nodes", len(seen), write),
        ]


def _seen(one: Part, id_: str) -> SeenNode:
    row = snapshot(one.registry, one.credentials, id_)
    assert row is not None
    return msgspec.convert(row, SeenNode, from_attributes=True)


async def _requests(cluster: Cluster, postgres: Meter) -> Stored:
    async with _filled(cluster, 100) as one:
        batch = [_record(number) for number in range(BATCH)]
        return await _one(postgres, f"{BATCH} requests recorded", BATCH, lambda: one.database.append(batch))


def _record(number: int) -> RequestRecord:
    id_, about = f"{number:032x}", node(number % 100)
    return RequestRecord(
        id=id_,
        at=time.time(),
        client="192.0.2.7",
        operation="openai.chat",
        model=about.models[0],
        node_id=about.id,
        node=about.name,
        status=200,
        outcome="done",
        streamed=True,
        attempts=1,
        first_byte=0.1234567,
        seconds=2.3456789,
        prompt_tokens=812,
        completion_tokens=211,
        error="",
    )


async def _one(postgres: Meter, what: str, rows: int, work: Work) -> Stored:
    used, held = [], []
    for _ in range(REPEATS):
        used.append(await measured(postgres, work))
        held.append(await _longest_hold(work))
    each = middle(used)
    return Stored(what, each.here / rows, each.postgres / rows, median(held))


async def _longest_hold(work: Work) -> float:
    """The longest that the event loop was not free while this was done: ms of this thread's processor time.

    Who asks for a turn all the time sees it; what other programs take of the processor does not count.
    """
    longest, done = 0.0, asyncio.create_task(_await(work))
    last = time.thread_time()
    while not done.done():
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop is what is measured
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    done.result()
    return longest * MS


async def _await(work: Work) -> None:
    await work()


# -- memory


def memory(nodes: int = 10_000) -> float:
    """What a node takes in a replica, in kB: 20 models, and a report with a graphics processor."""
    process, registry = psutil.Process(), Registry()
    gc.collect()
    before = process.memory_info().rss
    for number in range(nodes):
        registry.add(node(number), 0.0)
        report = msgspec.json.decode(_REPORT, type=Heartbeat)
        registry.heartbeat(node_id(number), report, 0.0)
    return (process.memory_info().rss - before) / nodes / 1000


_REPORT = msgspec.json.encode(REPORT)
