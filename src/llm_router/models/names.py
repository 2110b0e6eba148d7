"""What a model may be called (requirement H7), and the file names that follow from it.

A name is one or more parts with slashes between them, of lower-case letters, digits and `-_.:`; no part is `.` or
begins with a dot, none has `..` in it, and none is one of the names that Windows keeps for devices. So a name, made
into a path below a directory, stays below it, on every platform; `:`, which Windows cannot have, is `=` there.
"""

import re
from pathlib import Path, PurePosixPath

from llm_router.errors import BadRequest

LONGEST = 255  # characters, as the longest that file systems take for one part

_PARTS = re.compile(r"[a-z0-9_:-][a-z0-9_.:-]*(/[a-z0-9_:-][a-z0-9_.:-]*)*")
# Microsoft, "Naming Files, Paths, and Namespaces": also with an extension, and with a colon behind it.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])([.:=].*)?")


def check(name: str) -> str:
    """The name, if it is one.

    Raises:
        BadRequest: it is none; the message says what a name is.
    """
    if is_name(name):
        return name
    raise BadRequest(
        f"{name[:80]!r} is no name of a model: lower-case letters, digits and -_./: are, up to {LONGEST}, without .., "
        "a slash at either end, a dot at a part's beginning, or a name of a Windows device"
    )


def check_foreign(name: str) -> str:
    """As `check`, for a name that only a runtime reads: there it may have capitals (`hf.co/org/Model-GGUF:Q4_K_M`)."""
    check(name.lower())
    return name


def is_name(name: str) -> bool:
    """Whether a model may be called so."""
    if len(name) > LONGEST or ".." in name or not _PARTS.fullmatch(name):
        return False
    return not any(_DEVICES.fullmatch(part) for part in name.split("/"))


def path_below(directory: Path, name: str) -> Path:
    """Where a model of this name lies below `directory`, without a suffix.

    Raises:
        BadRequest: it is no name.
    """
    return directory.joinpath(*PurePosixPath(check(name).replace(":", "=")).parts)


def name_of(path: PurePosixPath) -> str:
    """The name of what lies at `path`, relative to its directory and without a suffix; it may not be one."""
    return path.as_posix().lower().replace("=", ":")
