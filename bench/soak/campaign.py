"""Who does what when."""

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import msgspec
from tests.doubles.rough_clients import Ending

from bench.soak.household import Household
from bench.soak.load import AGAIN, Asked, Company
from bench.soak.outages import ROUTER, comes_again, expected
from bench.soak.results import Files, Plan, Strange
from bench.soak.trouble import Trouble
from bench.soak.verdict import CLIENTS
from bench.soak.watch import Sample, Tally, children, held, tasks

EVERY = 10.0  # seconds between looks
TOLD = 6  # looks between lines on the terminal
REPORTED = 60  # looks between reports, so that a run which is cut leaves something
PATIENCE = aiohttp.ClientTimeout(total=5)
FOR_EVER = aiohttp.ClientTimeout(total=None, sock_connect=5)
TROUBLE = re.compile(r'^Traceback |"level": ?"(?:error|critical)"', re.MULTILINE)  # in a log


class Campaign:
    """One run, written to `out`. `tell` is told how it goes."""

    def __init__(self, plan: Plan, out: Path, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._out = out
        self._files = Files(out, plan)
        self._tell = tell
        self._zero = time.monotonic()
        self._ended = asyncio.Event()
        self._judges = True
        self._tally = Tally()
        self._strange = 0
        shutil.rmtree(out / "house", ignore_errors=True)
        (out / "house").mkdir()
        self._household = Household(out / "house", plan.replicas)
        self._trouble = Trouble(self._household, plan.seed, self._clock, self._files.add)
        self._company: Company
        self._reporting: asyncio.Task[int] | None = None

    def stop(self) -> None:
        """End before the time. What an interrupt does to the processes is no fault of theirs."""
        self._judges = False
        self._household.give_up()
        self._ended.set()

    async def run(self) -> int:
        """Start everything, watch, end everything. Returns the report's exit status: 0 where all was as expected."""
        try:
            await asyncio.to_thread(self._household.open)
            self._tell("all nodes are online")
            await self._soak()
        finally:
            await asyncio.to_thread(self._household.close)
        self._read_logs()
        if self._reporting is not None:
            await self._reporting
        return await self._report(None)

    def _clock(self) -> float:
        """Seconds of the run."""
        return time.monotonic() - self._zero

    async def _soak(self) -> None:
        plan, urls = self._plan, {name: router.url for name, router in self._household.routers.items()}
        self._zero = time.monotonic()
        self._company = Company(urls, plan.seed, self._judge, self._comes_again)
        asyncio.get_running_loop().call_later(plan.seconds, self._ended.set)
        gone = asyncio.Event()
        async with aiohttp.ClientSession() as session:
            async with asyncio.TaskGroup() as group:
                watching = [group.create_task(work) for work in (self._watch(session), _look_on(session, urls[ROUTER]))]
                coming = group.create_task(self._company.come(plan.rate, gone))
                await self._befall()
                gone.set()
                await coming
                await self._leave()
                for task in watching:
                    task.cancel()
            self._files.add(await self._look(session))

    async def _befall(self) -> None:
        """Until the end; a process that does not come back is the end."""
        try:
            await self._trouble.befall(self._plan.often, self._plan.seconds, self._ended)
        except* AssertionError as errors:
            self._note(Strange(self._clock(), "; ".join(map(str, errors.exceptions))))

    async def _leave(self) -> None:
        never = await self._company.leave()
        if never:
            self._note(Strange(self._clock(), f"{never} requests never ended"))

    # -- what becomes of the requests

    def _judge(self, asked: Asked) -> None:
        self._tally.add(asked)
        life = asked.life(self._zero)
        if not expected(life, self._trouble.outages):
            self._note(Strange(life.over, f"{asked.ending.kind}: {asked.ending.why}", msgspec.to_builtins(asked.plan)))

    def _comes_again(self, ending: Ending, router: str) -> bool:
        return self._judges and comes_again(ending, self._clock(), self._trouble.outages, router)

    def _note(self, strange: Strange) -> None:
        if not self._judges:
            return
        self._strange += 1
        self._files.add(strange)
        self._tell(f"unexpected: {strange.what}")

    # -- looks

    async def _watch(self, session: aiohttp.ClientSession) -> None:
        due, looks = time.monotonic(), 0
        while True:
            sample = await self._look(session)
            self._files.add(sample)
            if looks % TOLD == 0:
                self._tell(_line(sample))
            if looks % REPORTED == REPORTED - 1:
                self._reporting = asyncio.create_task(self._report(asyncio.subprocess.DEVNULL))
            looks += 1
            due += EVERY
            await asyncio.sleep(max(0.0, due - time.monotonic()))  # noqa: TID251 - a sample every ten seconds

    async def _look(self, session: aiohttp.ClientSession) -> Sample:
        first, whole, real = self._tally.take()
        found = {name: held(process.pid) for name, process in self._household.members.items()}
        found[CLIENTS] = held(os.getpid())
        return Sample(
            at=self._clock(),
            held={name: one for name, one in found.items() if one is not None},
            models=children(self._household.members["llama"].pid),
            tasks=await self._tasks(session),
            online=len(await asyncio.to_thread(self._household.online)),
            in_flight=self._company.in_flight,
            first=first,
            whole=whole,
            real=real,
            endings=dict(self._tally.endings),
            again=self._tally.again,
            turned_away=self._company.turned_away,
            unexpected=self._strange,
            unloads=self._trouble.unloads,
        )

    async def _tasks(self, session: aiohttp.ClientSession) -> dict[str, int]:
        """Of the routers' event loops; who does not answer is left out."""
        found = {name: await _tasks(session, router.url) for name, router in self._household.routers.items()}
        return {name: count for name, count in found.items() if count is not None}

    async def _report(self, stdout: int | None) -> int:
        """By another process, which takes nothing from the clients of this one."""
        command = [sys.executable, "-m", "bench.soak.report", str(self._out)]
        process = await asyncio.create_subprocess_exec(*command, stdout=stdout)
        return await process.wait()

    def _read_logs(self) -> None:
        """No process may have met an error of its own."""
        for name, text in self._household.logs().items():
            if TROUBLE.search(text):
                self._note(Strange(self._clock(), f"{name} logged an error"))


def _line(sample: Sample) -> str:
    """For the terminal."""
    router = sample.held.get(ROUTER)
    ends = " ".join(f"{kind} {count}" for kind, count in sorted(sample.endings.items()))
    memory = (
        "away"
        if router is None
        else f"{router.rss / 1e6:.0f} MB, {router.files} files, {sample.tasks.get(ROUTER)} tasks"
    )
    return (
        f"{sample.at / 60:5.0f} min  router {memory}; {sample.online} nodes; first byte p95 {sample.first.p95:.0f} ms; "
        f"{ends}; again {sample.again}; unexpected {sample.unexpected}"
    )


async def _tasks(session: aiohttp.ClientSession, url: str) -> int | None:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with session.get(f"{url}/metrics", timeout=PATIENCE) as response:
            return tasks(await response.text())
    return None


async def _look_on(session: aiohttp.ClientSession, url: str) -> None:
    """An open dashboard: reads the live stream, and asks for it again when it ends."""
    while True:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(f"{url}/v0/events", timeout=FOR_EVER) as response:
                async for _ in response.content.iter_any():
                    pass
        await asyncio.sleep(AGAIN)  # noqa: TID251 - as browsers do
