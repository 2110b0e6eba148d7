"""The logs of a node: the agent's own, and what its runtimes print; all in `<home>/node/logs` (requirement G7).

Rule 1: none grows without end. The agent's file is put aside as `.1` at LOG_SIZE; a runtime's, which its process holds
open, is copied to `.1` and emptied, so whoever opens one for a runtime opens it for appending.
Rule 2: writing never waits for the disk, other than in a thread of its own; what cannot be written is lost.
Rule 3: what is shown cannot steer a terminal: runtimes print what stands in model files.
"""

import logging
import os
import shutil
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from llm_router.config import MB
from llm_router.errors import NotFound

AGENT = "node"  # the name of the agent's own log
RESERVED = (AGENT, "ollama")  # logs that are no model's
LOG_SIZE = 10 * MB  # as the logs of `llm-router up`
LOOK_EVERY = 60.0  # seconds between looks at the size of the runtimes' logs
FOLLOW_EVERY = 0.25  # seconds between looks at a log that is followed: soon enough for people

Form = Literal["console", "json"]


def directory(home: Path) -> Path:
    """Where the logs of the node in this home are."""
    return home / "node" / "logs"


def file_name(model_id: str) -> str:
    """A file for every model, and no two the same: `+` and `=` are in no id, and no id begins with `/`."""
    escaped = f"+{model_id}" if model_id in RESERVED else model_id
    return escaped.replace("/", "+").replace(":", "=") + ".log"


def _name_of(path: Path) -> str:
    return path.name.removesuffix(".log").replace("+", "/").replace("=", ":")


# -- keeping


class OwnLog(RotatingFileHandler):
    """The agent's file; others on this machine cannot read it."""

    def __init__(self, home: Path) -> None:
        path = directory(home) / f"{AGENT}.log"
        super().__init__(path, maxBytes=LOG_SIZE, backupCount=1, delay=True, encoding="utf-8", errors="replace")

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "a", encoding=self.encoding, errors=self.errors)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: standard error has the line too, and a full disk would double it there (Rule 2)."""


@contextmanager
def kept(home: Path, form: Form) -> Iterator[None]:
    """Keep what is logged meanwhile, and bound the runtimes' logs. To be entered once logging is configured.

    Raises:
        OSError: the directory cannot be made.
    """
    logs = directory(home)
    logs.mkdir(parents=True, exist_ok=True)
    lines: SimpleQueue[logging.LogRecord] = SimpleQueue()
    listener = QueueListener(lines, OwnLog(home))
    ended = threading.Event()
    listener.start()
    threading.Thread(target=_keep_bounded, args=(logs, ended.wait), daemon=True).start()
    with _listening(_renderer(form), lines):
        try:
            yield
        finally:
            ended.set()
            listener.stop()
            for handler in listener.handlers:
                handler.close()


@contextmanager
def _listening(renderer: list[Processor], lines: "SimpleQueue[logging.LogRecord]") -> Iterator[None]:
    """Have structlog's events, and what libraries log through `logging`, sent to `lines` as well."""
    before = structlog.get_config()["processors"]

    def keep(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        line: Any = dict(event)
        for processor in renderer:
            line = processor(logger, method, line)
        lines.put(logging.makeLogRecord({"msg": line}))
        return event

    others = QueueHandler(lines)
    others.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer]
        )
    )
    structlog.configure(processors=[keep, *before])
    logging.getLogger().addHandler(others)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(others)
        structlog.configure(processors=before)


def _renderer(form: Form) -> list[Processor]:
    """Turn an event into a line: with the date, since it stays, and without colours."""
    shared: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    if form == "json":
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        return [*shared, stamp, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    stamp = structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False)
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    return [*shared, stamp, plain]


@contextmanager
def last_words(home: Path) -> Iterator[None]:
    """Keep why the agent ends, where it ends with an error: a service's standard error may go nowhere."""
    try:
        yield
    except Exception as error:
        expected = getattr(error, "message", "")  # ours, and click's, are made for people
        event: Any = {"event": "node.failed", "reason": expected or traceback.format_exc()}
        for processor in _renderer("console"):
            event = processor(None, "error", event)
        with suppress(OSError):
            directory(home).mkdir(parents=True, exist_ok=True)
            log = OwnLog(home)
            log.emit(logging.makeLogRecord({"msg": event}))
            log.close()
        raise


def _keep_bounded(logs: Path, wait: Callable[[float], bool]) -> None:
    while not wait(LOOK_EVERY):
        bound(logs)


def bound(logs: Path) -> None:
    """Put aside the end of logs that have grown over LOG_SIZE (Rule 1). Lines written meanwhile may be lost."""
    for path in logs.glob("*.log"):
        with suppress(OSError):  # it has just been put aside, or removed; else the next look tries again
            if path.stat().st_size > LOG_SIZE:
                _previous(path).touch(0o600)  # no more readable than the log
                shutil.copyfile(path, _previous(path))
                os.truncate(path, 0)


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


# -- showing


def names(home: Path) -> list[str]:
    """Every log that there is: the agent's first, then models by their names."""
    found = {_name_of(path) for path in directory(home).glob("*.log")}
    return sorted(found, key=lambda name: (name != AGENT, name))


def find(home: Path, name: str) -> Path:
    """The file of a log, by a name of `names`.

    Raises:
        NotFound: there is none; the message names those that there are.
    """
    path = directory(home) / (name.replace("/", "+").replace(":", "=") + ".log")
    if path.is_file():
        return path
    known = ", ".join(names(home))
    raise NotFound(f"no log of {name} in {directory(home)}; " + (f"there are: {known}" if known else "there are none"))


def show(path: Path, count: int, *, follow: bool) -> Iterator[str]:
    """The last `count` lines; then, to `follow`, what is written from there on, for ever.

    Where this file has too few, those of the one that was put aside come first.
    """
    lines, end = _tail(path, count)
    before, _ = _tail(_previous(path), count - len(lines))
    yield from (_printable(line) for line in (*before, *lines))
    if follow:
        yield from map(_printable, _follow(path, end))


def _tail(path: Path, count: int) -> tuple[list[bytes], int]:
    """The last lines, and where the file ended then."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        lines = deque((line.rstrip(b"\r\n") for line in file), maxlen=max(count, 0))
        return list(lines), file.tell()
    return [], 0


def _follow(path: Path, position: int) -> Iterator[bytes]:
    """Whole lines from `position` on. The file may be emptied or put aside, and not be there for a while.

    It is not held open: on Windows that would keep the agent from putting it aside.
    """
    rest = b""
    while True:
        data, position = _read_from(path, position)
        *lines, rest = (rest + data).split(b"\n")
        yield from (line.removesuffix(b"\r") for line in lines)
        if not data:
            time.sleep(FOLLOW_EVERY)


def _read_from(path: Path, position: int) -> tuple[bytes, int]:
    """What came since `position`, and where the file ends now; all of it where it has become shorter."""
    with suppress(OSError), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(position if size >= position else 0)
        data = file.read()
        return data, file.tell()
    return b"", position


CONTROLS = {c: None for c in (*range(32), *range(127, 160)) if chr(c) != "\t"}


def _printable(line: bytes) -> str:
    """Text, without the control characters that a terminal would obey (Rule 3)."""
    return line.decode(errors="replace").translate(CONTROLS)
