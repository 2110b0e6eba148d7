"""`llm-router serve --workers N`: N routers on one port and one database, each a process, and their supervisor.

Each worker is a whole router, a replica as if it ran on a machine of its own; the supervisor carries no request.

Rule 1: the first worker starts alone: what a database needs once (tables, the join token) is made by one, and a setting
that cannot be used is told once. Then the others start, and who connects is served meanwhile.
Rule 2: a worker that ends is started again, at once the first time, then after pauses that grow while it does not
live; the others serve on. Only at its very first start can a setting that cannot be used end the whole.
Rule 3: at the end all are told at once, and have the time that requests in flight have, and a little more.
"""

import asyncio
import contextlib
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from msgspec import Struct, structs

from llm_router.config import RouterConfig
from llm_router.errors import ConfigError, RouterError
from llm_router.gateway import log as logs
from llm_router.gateway.signals import stop_requested
from llm_router.router import lifeline
from llm_router.router.greeting import Reach
from llm_router.router.lifeline import Order, Ready, Refused
from llm_router.router.ports import can_share, reserved

WORKER = (sys.executable, "-m", "llm_router.router.worker")
QUICK = 10.0  # seconds: who served for less has the trouble that ended it still before it
FIRST_REST, LONGEST_REST = 1.0, 30.0  # seconds, doubling: a worker that cannot live costs two starts a minute
# Seconds on top of the drain time before a worker is killed: those who are cut are told (a second), the ledger writes
# its last batch.
STOP_MARGIN = 5.0

log = structlog.get_logger()


class WorkerFailed(RouterError):
    """The first worker did not start."""

    code = "worker_failed"


class End(Struct, frozen=True):
    """How a worker's process ended: its status as subprocesses have it, seconds it served, why it would not."""

    status: int
    served: float
    refused: Refused | None = None


async def run(config: RouterConfig, *, ready: Callable[[int], None], command: Sequence[str] = WORKER) -> None:
    """Serve until SIGINT or SIGTERM; a second one ends all at once. `ready` is told the port when the first one serves.

    `command`: the program that a worker is.

    Raises:
        ConfigError: workers are not possible here, or the port is taken, or one of them cannot use a setting.
        WorkerFailed: the first one did not start.
    """
    logs.configure(config.log_level, config.log_format)
    check(config)
    async with reserved(config) as port:
        workers = [Worker(n, config_of(n, config, port), command) for n in range(1, config.workers + 1)]
        stop = stop_requested(lambda: kill(workers))
        await supervise(workers, config.drain_timeout + STOP_MARGIN, ready=partial(ready, port), stop=stop)
    log.info("workers.stopped")


def check(config: RouterConfig) -> None:
    """See that there can be more than one.

    Raises:
        ConfigError: they cannot share the port, or a database.
    """
    if not can_share():
        raise ConfigError("--workers: processes cannot share a port on this system; start one router for each port")
    if not config.database_url:
        example = "postgresql+asyncpg://user:password@host/database"
        raise ConfigError(
            f"--workers {config.workers} need a database in common: set LLM_ROUTER_DATABASE_URL={example}"
        )


def config_of(number: int, config: RouterConfig, port: int) -> RouterConfig:
    """What worker `number` serves as: files in a place of its own, and one of them alone speaks to the network."""
    home = config.home / "workers" / str(number)
    return structs.replace(config, home=home, port=port, announce=config.announce and number == 1)


def rest(last: float | None, end: End) -> float:
    """Seconds until a worker is started again. `last`: what it rested before, None: it has not ended yet."""
    if last is None or end.served >= QUICK:
        return 0.0
    return min(max(FIRST_REST, 2 * last), LONGEST_REST)


def verdict(number: int, end: End) -> RouterError | None:
    """Why all must end if this is the end of a worker that has never served; None: it is started again."""
    if end.refused is not None and end.refused.misused:
        return ConfigError(end.refused.reason)
    if number > 1:
        return None  # others of the same kind serve: it is no fault of what they have in common
    return WorkerFailed(end.refused.reason if end.refused else f"the first worker ended with {how(end.status)}")


def how(status: int) -> str:
    """An exit status for people: subprocesses tell a signal as its negative number."""
    return f"signal {-status}" if status < 0 else f"status {status}"


class Worker:
    """One of them, of a number from 1 on: its process, and the line to it."""

    def __init__(self, number: int, config: RouterConfig, command: Sequence[str]) -> None:
        self.number = number
        self.url = Reach(config).here()
        self.has_served = asyncio.Event()
        self._order = Order(config, number)
        self._command = command
        # A greeting with its secrets is printed once, by the first.
        self._stdout: int | None = None if number == 1 else DEVNULL
        self._process: Process | None = None
        self._link: asyncio.StreamWriter | None = None

    async def live(self) -> End:
        """Start it, and wait for its end."""
        try:
            process, reader = await self._start()
        except OSError as error:  # of a machine that has no process or no memory left, for now
            self.release()
            return End(1, 0.0, Refused(f"no process could be started: {error}", misused=False))
        word = lifeline.decode(await _line(reader))
        since = time.monotonic()
        if isinstance(word, Ready):
            log.info("worker.started", worker=self.number, pid=process.pid)
            self.has_served.set()
        status = await process.wait()
        self.release()
        served = time.monotonic() - since if isinstance(word, Ready) else 0.0
        return End(status, served, word if isinstance(word, Refused) else None)

    def release(self) -> None:
        """Tell it to finish what it has begun, and to end."""
        if self._link is not None:
            self._link.close()

    async def gone(self) -> None:
        """Wait for the end that it was told of."""
        if self._process is not None and self._process.returncode is None and (status := await self._process.wait()):
            log.warning("worker.ended", worker=self.number, how=how(status))

    def kill(self) -> bool:
        """End it at once; whether there was anything to end."""
        if self._process is None or self._process.returncode is not None:
            return False
        with contextlib.suppress(ProcessLookupError):  # it has ended, and nobody has told us yet
            self._process.kill()
        return True

    async def _start(self) -> tuple[Process, asyncio.StreamReader]:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, self._link = await asyncio.open_unix_connection(sock=ours)
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=theirs.fileno(),
                stdout=self._stdout,
                start_new_session=True,  # Ctrl-C, or the end of the terminal, is ours to hear
            )
        self._stdout = DEVNULL
        self._link.write(lifeline.encode(self._order))
        return self._process, reader


async def _line(reader: asyncio.StreamReader) -> bytes:
    """A line; nothing where it ends before that."""
    try:
        return await reader.readline()
    except ConnectionError:  # it ended with the order unread
        return b""


async def supervise(
    workers: Sequence[Worker], patience: float, *, ready: Callable[[], None], stop: asyncio.Event
) -> None:
    """Keep them alive until `stop` is set, then end them; `patience` in seconds. `ready`: when the first one serves.

    Raises:
        ConfigError, WorkerFailed: see `verdict`.
    """
    life = asyncio.create_task(_live(workers, ready))
    told = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({life, told}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        life.cancel()
        told.cancel()
        await asyncio.wait({life, told})
        await _end(workers, patience)
    if not life.cancelled():
        life.result()


def kill(workers: Sequence[Worker]) -> list[int]:
    """End all of them at once; the numbers of those that there were."""
    return [worker.number for worker in workers if worker.kill()]


async def _live(workers: Sequence[Worker], ready: Callable[[], None]) -> None:
    """Start them (Rule 1), and keep them."""
    first, *others = workers
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_keep(first))
            await first.has_served.wait()
            ready()
            for worker in others:
                group.create_task(_keep(worker))
            for worker in others:
                await worker.has_served.wait()
            log.info("workers.started", url=first.url, count=len(workers))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def _keep(worker: Worker) -> None:
    """Start it again whenever it ends (Rule 2)."""
    rested: float | None = None
    while True:
        end = await worker.live()
        if not worker.has_served.is_set() and (why := verdict(worker.number, end)) is not None:
            raise why
        rested = rest(rested, end)
        reason = {"reason": end.refused.reason} if end.refused else {}
        log.warning("worker.ended", worker=worker.number, how=how(end.status), again_in=rested, **reason)
        await asyncio.sleep(rested)  # noqa: TID251 - a worker that cannot live must not be started in a tight loop


async def _end(workers: Sequence[Worker], patience: float) -> None:
    """Tell them, wait, and kill who is left (Rule 3)."""
    log.info("workers.stopping")
    for worker in workers:
        worker.release()
    ends = asyncio.gather(*(worker.gone() for worker in workers))
    try:
        async with asyncio.timeout(patience):
            await asyncio.shield(ends)
    except TimeoutError:
        log.warning("workers.killed", workers=kill(workers), after=patience)
        await ends
