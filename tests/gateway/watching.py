"""A watch over a test's event loop: no exception of a callback or task goes unnoticed, wherever it ended."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from structlog.testing import capture_logs


class _Escapes(logging.Handler):
    """Keeps what asyncio has to complain about."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


@asynccontextmanager
async def nothing_escapes() -> AsyncIterator[None]:
    """Fails when anything reached the loop's exception handler or asyncio's log, or was logged by us as an error."""
    loop, escapes, log = asyncio.get_running_loop(), _Escapes(), logging.getLogger("asyncio")
    loop.set_exception_handler(lambda _, context: escapes.found.append(repr(context)))
    log.addHandler(escapes)
    try:
        with capture_logs() as events:
            yield
            gc.collect(1)  # a task whose exception nobody asked for says so when it is collected
    finally:
        loop.set_exception_handler(None)
        log.removeHandler(escapes)
    errors = [str(event) for event in events if event["log_level"] in {"error", "critical"}]
    assert escapes.found + errors == []
