"""What `llm-router models` does: list models, register and remove them with a router, have a node fetch one."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import msgspec

from llm_router.client import CommandError, Router, is_usable, print_json, print_table, say
from llm_router.contract import NodeView

if TYPE_CHECKING:
    from rich.progress import Progress

MODELS = "/v0/models"
PULL = "/api/pull"


class Placement(msgspec.Struct):
    """Where a model shall lie: on so many nodes, on those with these ids, in memory."""

    nodes: int = 1
    pinned: list[str] = []
    preload: bool = False

    def __str__(self) -> str:
        many = [f"{self.nodes} nodes"] if self.nodes > 1 else []
        pinned = [f"{len(self.pinned)} pinned"] if self.pinned else []
        return ", ".join([*many, *pinned, *(["preloaded"] if self.preload else [])]) or "on demand"


class Registered(msgspec.Struct):
    """What is read of a model of the catalogue; bytes."""

    name: str
    size: int
    memory: int
    placement: Placement


class Row(msgspec.Struct):
    """A model: the nodes that hold it, and of these those that have it in memory. `offered`: those that could fetch it.

    `size` in bytes, and `placement`, of those in the catalogue.
    """

    model: str
    nodes: list[str] = []
    loaded: list[str] = []
    offered: list[str] = []
    size: int = 0
    placement: str = ""


class Record(msgspec.Struct):
    """A line of a pull's answer, as Ollama has it: what happens, and how many of the bytes of a file are there."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""


# -- what there is


def list_models(router: Router, *, as_json: bool) -> None:
    """Print what can be asked for now, and what the catalogue has besides."""
    rows = rows_of(router.nodes(), router.read(router.call("GET", MODELS), list[Registered]))
    if as_json:
        print_json(rows)
    elif rows:
        columns = ["model", "nodes", "in memory", "size", "placement"]
        print_table(columns, (_cells(row) for row in rows), numbers=("size",))
    else:
        say("No models: no node is online, and none is registered. See `llm-router models add --help`.")


def rows_of(nodes: Iterable[NodeView], registered: Iterable[Registered]) -> list[Row]:
    """Every model that a node which can be used lists, or that is registered, by name (requirement C8)."""
    rows = {one.name: Row(one.name, [], [], [], one.size, str(one.placement)) for one in registered}
    for node in filter(is_usable, nodes):
        for model in (model for model in node.models if model not in node.excluded):
            row = rows.setdefault(model, Row(model, [], [], []))
            (row.offered if model in node.offered else row.nodes).append(node.name)
            if model in node.loaded:
                row.loaded.append(node.name)
    return [rows[name] for name in sorted(rows)]


def _cells(row: Row) -> list[str]:
    return [row.model, ", ".join(row.nodes), ", ".join(row.loaded), in_words(row.size), row.placement]


def in_words(size: int) -> str:
    """Return bytes as people say them; nothing for none."""
    return "" if not size else f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


# -- what is to be


def add(router: Router, place: str, wanted: dict[str, object]) -> None:
    """Register the model at `place`, a repository of the hub or a URL, and say what it is."""
    where = "url" if "://" in place else "repo"
    model = router.read(router.call("POST", MODELS, {where: place, **wanted}), Registered)
    memory = f", takes {in_words(model.memory)} of memory" if model.memory else ""
    say(f"registered {model.name} ({in_words(model.size)}{memory}): {model.placement}")


def remove(router: Router, name: str, *, files: bool) -> None:
    """Take a model out of the catalogue; `files`: and off the nodes."""
    router.call("DELETE", f"{MODELS}/{quote(name)}{'?files=true' if files else ''}")
    say(f"removed {name}")


def pull(router: Router, name: str, node: str) -> None:
    """Have a node fetch a model now, and show how far it is; `node`: its id or name, "" for the router's choice."""
    where = f"?{urlencode({'node': node})}" if node else ""
    lines = router.lines(f"{PULL}{where}", {"model": name, "stream": True})
    records = (router.read(line, Record) for line in lines if line.strip())
    with _bars() as bars:
        for record in records:
            if record.error:
                raise CommandError(record.error)
            _show(bars, record)
    say(f"pulled {name}")


def _bars() -> "Progress":
    """Return bars on standard error; on no terminal they show nothing."""
    from rich.console import Console  # noqa: PLC0415 - 80 ms that a chat must not pay
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415 - as above

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), *columns, console=console, transient=True, disable=not console.is_terminal
    )


def _show(bars: "Progress", record: Record) -> None:
    """Show a record on the bar of what it is about: there is one for each status, as with Ollama."""
    task = next((task for task in bars.tasks if task.description == record.status), None)
    number = bars.add_task(record.status, total=None) if task is None else task.id
    if record.total:
        bars.update(number, completed=record.completed, total=record.total)
    elif not sys.stderr.isatty() and task is None:
        sys.stderr.write(f"{record.status}\n")
