"""What PostgreSQL can hold: nearly all that SQLite can. What it cannot is replaced, and nothing around it lost."""

from math import isfinite
from typing import Any

import msgspec

from llm_router.core.usage import RequestRecord

_NUL = "\0"
_UNREADABLE = "\ufffd"
_GREATEST = 2**63 - 1  # of 64 bits


def text(value: str) -> str:
    """Without NUL, and without halves of characters, which no UTF-8 has."""
    if value.isascii() or value.isprintable():  # no half of a character is
        return value.replace(_NUL, _UNREADABLE)
    return value.replace(_NUL, _UNREADABLE).encode(errors="replace").decode()


def parameter(value: Any) -> Any:  # noqa: ANN401 - whatever a statement may be given
    """The same, with each text in it as `text` makes it."""
    if isinstance(value, str):
        return text(value)
    return type(value)(map(parameter, value)) if isinstance(value, list | tuple) else value


def record(given: RequestRecord) -> RequestRecord:
    """As it can be held: numbers as near as there are."""
    return RequestRecord(*map(_value, msgspec.structs.astuple(given)))


def _value(value: Any) -> Any:  # noqa: ANN401 - of any field
    if isinstance(value, float):
        return value if isfinite(value) else 0.0
    if isinstance(value, int) and not isinstance(value, bool):
        return max(0, min(value, _GREATEST))
    return parameter(value)
