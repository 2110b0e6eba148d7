"""What a model may be called (requirement H7), and the file names that follow from it.

A name is one or more parts with slashes between them, of lower-case letters, digits and `-_.:`; no part begins or ends
with a dot or a colon, none has `..` in it, and none is one of the names that Windows keeps for devices. So a name, made
into a path below a directory, stays below it, on every platform, and no two names are the same path (Windows drops a
dot at the end); `:`, which Windows cannot have, is `=` there. Links are another matter: see `place_below`.
"""

import re
from pathlib import Path, PurePosixPath

from llm_router.errors import BadRequest

# Characters. File systems take 255 for one part, of which what is put around a name takes some: the longest is that of
# the file `.<name>-00001-of-00003.gguf.<process>.partial`.
LONGEST = 200

_PARTS = re.compile(r"[a-z0-9_-]([a-z0-9_.:-]*[a-z0-9_-])?(/[a-z0-9_-]([a-z0-9_.:-]*[a-z0-9_-])?)*")
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
        "a slash at either end, a dot or colon at a part's, or a name of a Windows device"
    )


def check_foreign(name: str) -> str:
    """As `check`, for a name that only a runtime reads: there it may have capitals (`hf.co/org/Model-GGUF:Q4_K_M`)."""
    check(name.lower() if name.isascii() else name)  # other letters may have an ASCII one as their lower case
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


def place_below(directory: Path, name: str) -> Path:
    """As `path_below`, for what is about to be written: no link on the way there leads elsewhere. It reads the disk.

    Raises:
        BadRequest: it is no name, or one does.
    """
    path = path_below(directory, name)
    if not path.parent.resolve().is_relative_to(directory.resolve()):
        raise BadRequest(f"{name!r} leads out of {directory} by a link that lies there: choose another name")
    return path


def name_of(path: PurePosixPath) -> str:
    """The name of what lies at `path`, relative to its directory and without a suffix; it may not be one."""
    return path.as_posix().lower().replace("=", ":")
