"""What a request of Ollama's API asks of the place that its model has in memory, beside its answer.

Sources: ollama/ollama `docs/api.md` (`keep_alive`, `options.num_ctx`), `api/types.go` (`Duration.UnmarshalJSON`), Go's
`time.ParseDuration`.
"""

import math
import re

import msgspec
from msgspec import Struct

from llm_router.contract import UNREADABLE
from llm_router.errors import BadRequest
from llm_router.wire.dialects.base import Operation

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+")


class Wishes(Struct, frozen=True):
    """`keep_alive`: seconds that the model shall stay in memory unused, infinity for ever, None: nothing is said.

    `context`: tokens of context that it shall have, 0: nothing is said.
    """

    keep_alive: float | None = None
    context: int = 0


SHORT = 1024  # bytes: what asks only to unload a model has its name and little else
_MAY_UNLOAD = frozenset({"ollama.generate", "ollama.chat"})


class _Unload(Struct):
    keep_alive: float | str | None = None
    prompt: str = ""
    messages: list[msgspec.Raw] = []


_unload = msgspec.json.Decoder(_Unload).decode


def is_unload(operation: Operation, body: bytes) -> bool:
    """Whether this asks for nothing but that a model leaves the memory (`docs/api.md`, "Unload a model")."""
    if operation.name not in _MAY_UNLOAD or len(body) > SHORT or b"keep_alive" not in body:
        return False
    try:
        asked = _unload(body)
        empty = not asked.prompt and not asked.messages
        return empty and asked.keep_alive is not None and keep_alive(asked.keep_alive) == 0
    except (*UNREADABLE, BadRequest):
        return False


def keep_alive(value: float | str) -> float:
    """Seconds from what people write: a number of seconds, or a duration of Go's ("5m", "1h30m"); below 0: for ever.

    Ollama takes a bare number in a string from its environment only; here it is taken everywhere.

    Raises:
        BadRequest: it is neither.
    """
    seconds = value if isinstance(value, int | float) else _parse(value.strip())
    if seconds is None or math.isnan(seconds):
        raise BadRequest(f'keep_alive: {value!r} is no duration: write seconds, or as in "5m" or "1h30m"; -1: for ever')
    return math.inf if seconds < 0 else float(seconds)


def _parse(text: str) -> float | None:
    sign = -1 if text.startswith("-") else 1
    digits = text[1:] if text[:1] in ("+", "-") else text
    if _NUMBER.fullmatch(digits):
        return sign * float(digits)
    if not _WHOLE.fullmatch(digits):
        return None
    return sign * sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(digits))
