"""History as a file to keep: CSV for spreadsheets, JSON for programs, written as it is read from the database."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
from litestar.response import Stream

from llm_router.gateway.control_app import AnyRequest

Format = Literal["", "csv", "json"]
Rows = AsyncIterator[Sequence[msgspec.Struct]]

# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection"). Clients choose names of models and
# the like; a file of ours shall run nothing for them.
FORMULA = ("=", "+", "-", "@", "\t", "\r")

TYPES = {"csv": "text/csv", "json": "application/json"}


def wanted(request: AnyRequest, named: Format) -> Format:
    """What to answer as: what is `named` in the query, else CSV where only that is accepted; empty: as ever."""
    return named or ("csv" if request.headers.get("accept", "").startswith("text/csv") else "")


def download(name: str, form: Format, kind: type[msgspec.Struct], rows: Rows) -> Stream:
    """A file of these rows, which are all of one `kind`."""
    written = _csv(kind, rows) if form == "csv" else _json(rows)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"content-disposition": f'attachment; filename="{name}-{now}.{form}"', "cache-control": "no-store"}
    return Stream(written, media_type=TYPES[form], headers=headers)


async def _csv(kind: type[msgspec.Struct], rows: Rows) -> AsyncIterator[bytes]:
    yield _lines([kind.__struct_fields__])
    async for some in rows:
        yield await asyncio.to_thread(_lines, [msgspec.structs.astuple(row) for row in some])


def _lines(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([[_harmless(value) for value in row] for row in rows])
    return text.getvalue().encode("utf-8", "replace")


def _harmless(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()  # as in JSON
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


async def _json(rows: Rows) -> AsyncIterator[bytes]:
    between = b"["
    async for some in rows:
        if some:
            yield between + await asyncio.to_thread(_elements, some)
            between = b",\n"
    yield b"]\n" if between != b"[" else b"[]\n"


def _elements(rows: Sequence[msgspec.Struct]) -> bytes:
    return b",\n".join(map(msgspec.json.encode, rows))
