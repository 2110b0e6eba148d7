"""Logging, set up in one place: structlog's events, dotted and past tense with fields, on standard error.

Libraries that log through `logging` (uvicorn, aiohttp, litestar) are heard from WARNING on, in the same form.
"""

import contextlib
import logging
import sys
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import Processor

Level = Literal["debug", "info", "warning", "error"]


def configure(level: Level, form: Literal["console", "json"]) -> None:
    """Log from `level` on, as lines for people or as one JSON object each."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if form == "json" else "%H:%M:%S", utc=form == "json"),
    ]
    last = _renderers(form)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # A line and its end are written at once: several processes may write to one file.
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_strip_meta, *last]))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class _StandardError:
    """Whatever standard error is when a line is written: while bars are shown, rich puts lines above them.

    A line that cannot be written (the disk is full, the terminal gone) is left out: no request shall fail for it.
    """

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def _renderers(form: Literal["console", "json"]) -> list[Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback  # rich's boxed one is pages long and loads a highlighter
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


_strip_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
