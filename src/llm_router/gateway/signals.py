"""How a process is told to end: the first SIGTERM or Ctrl-C asks, the second one ends it at once."""

import asyncio
import os
import signal
from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_requested(last: Callable[[], object] | None = None) -> asyncio.Event:
    """An event that the first signal sets; from then on the next one ends the process with the status shells expect.

    `last`: what is to be done before that, without waiting. Call it in the main thread, inside the loop.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def asked(number: int) -> None:
        if stop.is_set():
            if last is not None:
                last()
            os._exit(128 + number)
        stop.set()

    for number in SIGNALS:
        try:
            loop.add_signal_handler(number, asked, number)
        except NotImplementedError:  # Windows' loops have no such method
            signal.signal(number, lambda number, _frame: loop.call_soon_threadsafe(asked, number))
    return stop
