"""The files of a run: its plan, and a line of JSON for each sample, outage, and what was unexpected, as it happens."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench.soak.outages import Outage
from bench.soak.trouble import Often
from bench.soak.watch import Sample

T = TypeVar("T")


class Strange(msgspec.Struct):
    """What should not have been, `at` seconds of the run; `about` is the request, where it was one."""

    at: float
    what: str
    about: dict[str, Any] = {}


class Plan(msgspec.Struct, frozen=True):
    """What is asked for: seconds, requests per second, how often there is trouble, the seed of all dice.

    `replicas`: routers that are one, on a PostgreSQL of their own; 1: a router with SQLite.
    """

    seconds: float
    rate: float
    often: Often
    seed: int
    replicas: int = 1


class Run(msgspec.Struct):
    """What a directory holds."""

    plan: Plan
    samples: list[Sample]
    outages: list[Outage]
    strange: list[Strange]


PLAN = "plan.json"
NAMES: dict[type, str] = {Sample: "samples.ndjson", Outage: "outages.ndjson", Strange: "unexpected.ndjson"}


class Files:
    """Appends to them, in an empty directory."""

    def __init__(self, out: Path, plan: Plan) -> None:
        self._out = out
        out.mkdir(parents=True, exist_ok=True)
        (out / PLAN).write_bytes(msgspec.json.encode(plan))
        for name in NAMES.values():
            (out / name).write_bytes(b"")

    def add(self, what: Sample | Outage | Strange) -> None:
        """A line more."""
        with (self._out / NAMES[type(what)]).open("ab") as file:
            file.write(msgspec.json.encode(what) + b"\n")


def read(out: Path) -> Run:
    """What a run has written so far."""
    plan = msgspec.json.decode((out / PLAN).read_bytes(), type=Plan)
    return Run(plan, _lines(out, Sample), _lines(out, Outage), _lines(out, Strange))


def _lines(out: Path, kind: type[T]) -> list[T]:
    return msgspec.json.Decoder(kind).decode_lines((out / NAMES[kind]).read_bytes())
