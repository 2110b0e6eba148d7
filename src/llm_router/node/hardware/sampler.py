"""Reads GPUs in a thread of its own: a driver may take its time, and one that hangs must not hold the agent.

The thread is a daemon, since a process waits for its other threads, and for those of asyncio.to_thread, before it ends.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable

import structlog

from llm_router.contract import HEARTBEAT_EVERY, Gpu

Device = Callable[[], Gpu]  # reads one GPU

# Seconds. A machine whose driver is not loaded until somebody asks takes up to 2; a node is to be registered within 5.
FIRST_WITHIN = 3.0

log = structlog.get_logger()


def unchanging(gpu: Gpu) -> Device:
    """A GPU of which nothing is known but what was found."""
    return lambda: gpu


class Sampler:
    """Keeps what the GPUs said last in `latest`."""

    def __init__(
        self, find: Callable[[], list[Device]], *, every: float = HEARTBEAT_EVERY, within: float = FIRST_WITHIN
    ) -> None:
        """`find` is called once, the devices that it finds every `every` seconds; `start` waits `within` seconds."""
        self.latest: list[Gpu] = []
        self._find = find
        self._every = every
        self._within = within
        self._stopped = threading.Event()

    async def start(self) -> None:
        """Begin. Returns with the first figures, or without them where they take too long: they come later then."""
        loop, first = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(first.set)

        threading.Thread(target=self._run, args=(tell,), name="gpus", daemon=True).start()
        try:
            # Not `wait_for`: before Python 3.12 it can swallow a cancellation that comes with the event.
            async with asyncio.timeout(self._within):
                await first.wait()
        except TimeoutError:
            log.warning("gpus.slow", hint="the graphics driver does not answer yet; going on without it")

    def stop(self) -> None:
        """End the thread, without waiting for it."""
        self._stopped.set()

    def _run(self, tell: Callable[[], None]) -> None:
        try:
            devices = self._find()
            self.latest = [read() for read in devices]
            tell()
            while devices and not self._stopped.wait(self._every):
                self.latest = [read() for read in devices]
        except Exception as error:  # noqa: BLE001 - the thread ends here; without figures of its GPU a node still works
            log.warning("gpus.unreadable", error=repr(error))
            tell()
