"""What operators may set of a node, and what is made of it (requirement F3).

Rule 1: the same limits hold for a node's own copy, which comes from another machine.
Rule 2: `changed` only grows, so that a change counts against every older copy, whatever has been done to the clock.
"""

import unicodedata
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from llm_router.contract import NodeSettings
from llm_router.errors import BadRequest

NAME_LENGTH = 100  # characters: a line of a list, with room for what stands beside it
NOTES_LENGTH = 2_000  # characters: a page; every heartbeat's answer carries them
TAGS = 20
TAG_LENGTH = 50  # characters

TICK = 0.001  # seconds: what a change is later than the one before, at least
NOT_SHOWN = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, halves of surrogate pairs, separators of lines


class SettingsChange(msgspec.Struct, frozen=True):
    """`PATCH /v0/nodes/{id}`: what is to be other; what is left out stays. An empty name is the machine's own."""

    name: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    notes: str | UnsetType = UNSET
    drain: bool | UnsetType = UNSET


def changed(settings: NodeSettings, change: SettingsChange, now: float) -> NodeSettings:
    """The settings after the change; the same ones, with the same time, if it changes nothing. `now`: of the epoch.

    Raises:
        BadRequest: a value is over a limit; the message says which, and what may be.
    """
    told = {name: _tidy(value) for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    wanted = msgspec.structs.replace(settings, **told)
    check(wanted)
    if wanted == settings:
        return settings
    return msgspec.structs.replace(wanted, changed=max(now, settings.changed + TICK))


def check(settings: NodeSettings) -> None:
    """Raise BadRequest if something is over a limit, or has characters that cannot be shown."""
    _require(len(settings.name) <= NAME_LENGTH, f"name: at most {NAME_LENGTH} characters")
    _require(_is_shown(settings.name), "name: characters that can be shown, on one line")
    _require(len(settings.notes) <= NOTES_LENGTH, f"notes: at most {NOTES_LENGTH} characters")
    _require(_is_shown(settings.notes, besides="\n\t"), "notes: characters that can be shown")
    _require(len(settings.tags) <= TAGS, f"tags: at most {TAGS}")
    _require(all(0 < len(tag) <= TAG_LENGTH for tag in settings.tags), f"tags: 1 to {TAG_LENGTH} characters each")
    _require(all(_is_shown(tag) and "," not in tag for tag in settings.tags), "tags: no commas, on one line each")


def check_fields(names: Iterable[str]) -> None:
    """Raise BadRequest, with the names, if some are not those of settings: a misspelt one must not go unnoticed."""
    known = SettingsChange.__struct_fields__
    unknown = sorted(set(names).difference(known))
    _require(not unknown, f"unknown: {', '.join(unknown)}; what can be set is {', '.join(known)}")


def _require(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence where it is called
    if not holds:
        raise BadRequest(what)


def _tidy(value: Any) -> Any:  # noqa: ANN401 - any field's value
    """Without space around it; a list without duplicates."""
    if isinstance(value, list):
        return list(dict.fromkeys(item.strip() for item in value))
    return value.strip() if isinstance(value, str) else value


def _is_shown(text: str, besides: str = "") -> bool:
    return all(c in besides or unicodedata.category(c) not in NOT_SHOWN for c in text)
