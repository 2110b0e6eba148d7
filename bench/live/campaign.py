"""Who does what when."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from bench.live.asking import Asker
from bench.live.metrics import Buckets, buckets, quantile, share_within
from bench.live.nodes import Counts, give_way
from bench.live.results import MS, Results, waits
from bench.live.trouble import unwritable
from bench.live.watching import Watcher
from bench.processes import Program, running, wait_until
from llm_router.contract import HEARTBEAT_EVERY

LIMIT = 0.02  # seconds of lag that are promised; an end of a bucket of the router's
LOOKS = 20.0  # a second: GET /health, for what the loop's lag is from outside
LATE = 20.0  # seconds after the last request in which watchers and history must have all of them


class Plan(msgspec.Struct, frozen=True):
    """How many, and for how many seconds; the database is in trouble in the middle third of them."""

    nodes: int
    rate: float
    watchers: int
    seconds: float
    every: float = HEARTBEAT_EVERY


class _Kept(msgspec.Struct):
    id: str


class _View(msgspec.Struct):
    state: str


class Campaign:
    """One run of a plan in `home`, an empty directory. `tell` is told how it goes."""

    def __init__(self, plan: Plan, home: Path, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._home = home
        self._tell = tell
        self._trouble = ""
        self._began = self._ended = 0.0  # of the trouble, by the loop's clock

    async def run(self) -> Results:
        """Start everything, measure, end everything.

        Raises:
            NotReadyError: something did not get that far.
        """
        plan = self._plan
        async with AsyncExitStack() as stack:
            router, url = await stack.enter_async_context(_router(self._home))
            give_way()
            self._tell(f"{url}: {plan.nodes} nodes register")
            nodes = await stack.enter_async_context(_nodes(url, plan, self._home))
            session = await stack.enter_async_context(_session(url))
            watchers = [Watcher(session) for _ in range(plan.watchers)]
            watching = [asyncio.create_task(watcher.watch()) for watcher in watchers]
            stack.push_async_callback(_end, watching)
            await wait_until(lambda: _greeted(watchers, watching), "the live stream does not begin")
            self._tell(f"measuring for {plan.seconds:g} s")
            return await self._measure(router, nodes.line.strip(), session, watchers)

    async def _measure(
        self, router: Program, nodes: str, session: aiohttp.ClientSession, watchers: list[Watcher]
    ) -> Results:
        plan, asker = self._plan, Asker(session)
        lag, cpu, starved = await _lag(session), router.cpu(), _starved(router.pid)
        async with asyncio.TaskGroup() as group:
            group.create_task(asker.chat(plan.rate, plan.seconds))
            group.create_task(asker.look(LOOKS, plan.seconds))
            group.create_task(self._break())
        cpu, starved, later = router.cpu() - cpu, _starved(router.pid) - starved, await _lag(session)
        ids = {sample.id for sample in asker.chats if not sample.failure}
        unseen = await asyncio.gather(*(watcher.has_seen(ids, LATE) for watcher in watchers))
        counts = await _counts(nodes)
        p99, chats = quantile(lag, later, 0.99), asker.chats
        return Results(
            nodes=plan.nodes,
            online=await _online(session),
            watchers=plan.watchers,
            seconds=plan.seconds,
            trouble=self._trouble,
            chats=waits(chats),
            before=waits(s for s in chats if s.sent < self._began),
            broken=waits(s for s in chats if self._began <= s.sent < self._ended),
            after=waits(s for s in chats if s.sent >= self._ended),
            health=waits(asker.looks),
            lag_p99=None if p99 is None else p99 * MS,
            in_time=share_within(lag, later, LIMIT),
            failures=[s.failure for s in (*chats, *asker.looks) if s.failure],
            reports=counts.reports,
            refused_reports=counts.refused,
            unseen=sum(unseen),
            twice=sum(count > 1 for watcher in watchers for count in watcher.seen.values()),
            cut=sum(watcher.cut for watcher in watchers),
            unrecorded=await _unrecorded(session, ids),
            cpu=cpu / plan.seconds,
            starved=starved / plan.seconds,
            told=sum(watcher.nodes for watcher in watchers),
        )

    async def _break(self) -> None:
        """The middle third."""
        third, loop = self._plan.seconds / 3, asyncio.get_running_loop()
        await asyncio.sleep(third)  # noqa: TID251 - all is well
        with unwritable(self._home / "router" / "router.db") as self._trouble:
            self._began = loop.time()
            self._tell(f"the database: {self._trouble}")
            await asyncio.sleep(third)  # noqa: TID251 - it is not
        self._ended = loop.time()
        self._tell("the database can be written again")


@asynccontextmanager
async def _router(home: Path) -> AsyncIterator[tuple[Program, str]]:
    options = [
        "--home",
        str(home),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--with-parent",
        "--log-format",
        "json",
        "--log-level",
        "warning",
    ]
    command = [sys.executable, "-m", "llm_router", "serve", *options]
    async with running(command, {"LLM_ROUTER_ANNOUNCE": "false"}, home / "router.log") as program:
        yield program, program.line.rsplit(maxsplit=1)[-1]


@asynccontextmanager
async def _nodes(url: str, plan: Plan, home: Path) -> AsyncIterator[Program]:
    options = ["--router", url, "--nodes", str(plan.nodes), "--every", str(plan.every)]
    async with running([sys.executable, "-m", "bench.live.nodes", *options], {}, home / "nodes.log") as program:
        yield program


@asynccontextmanager
async def _session(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _greeted(watchers: list[Watcher], watching: list[asyncio.Task[None]]) -> bool:
    for task in watching:
        if task.done():
            task.result()
    return all(watcher.greeted.is_set() for watcher in watchers)


async def _lag(session: aiohttp.ClientSession) -> Buckets:
    async with session.get("/metrics") as response:
        return buckets(await response.text()) if response.status == 200 else {}


def _starved(pid: int) -> float:
    """Seconds that a process' first thread, its event loop's, was ready and had no processor; 0 where nobody counts.

    The second figure of /proc/PID/schedstat, in nanoseconds (Linux, Documentation/scheduler/sched-stats.rst).
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0


async def _online(session: aiohttp.ClientSession) -> int:
    async with session.get("/v0/nodes") as response:
        views = msgspec.json.decode(await response.read(), type=list[_View])
    return sum(view.state == "online" for view in views)


async def _counts(url: str) -> Counts:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/_counts") as response:
        return msgspec.json.decode(await response.read(), type=Counts)


async def _unrecorded(session: aiohttp.ClientSession, ids: set[str]) -> int:
    """How many of `ids` are not in the history."""
    missing = set(ids)

    async def complete() -> bool:
        async with session.get("/v0/requests", params={"format": "json"}) as response:
            missing.difference_update(one.id for one in msgspec.json.decode(await response.read(), type=list[_Kept]))
        return not missing

    try:
        async with asyncio.timeout(LATE):
            while not await complete():  # noqa: ASYNC110 - another program has no event of ours
                await asyncio.sleep(1)  # noqa: TID251 - the ledger tries again every second
    except TimeoutError:
        pass
    return len(missing)
