"""What this machine has to have: programs of others, and room for open files."""

import os
import resource
import shutil

from bench.processes import NotReadyError

# Program -> Debian's package.
PACKAGES = {"nginx": "nginx-light", "wrk": "wrk", "cc": "gcc libc6-dev"}
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])  # nginx's is not on everybody's path
FILES_BESIDES = 256  # logs, databases, listeners, idle connections to upstreams


def require_programs(places: str = PLACES) -> None:
    """Look for them all.

    Raises:
        NotReadyError: one is missing; says what to install.
    """
    missing = [name for name in PACKAGES if shutil.which(name, path=places) is None]
    if missing:
        packages = " ".join(PACKAGES[name] for name in missing)
        raise NotReadyError(f"not installed: {', '.join(missing)}. Try: apt-get install {packages}")


def path_of(program: str) -> str:
    """Where one of them is.

    Raises:
        NotReadyError: nowhere.
    """
    path = shutil.which(program, path=PLACES)
    if path is None:
        raise NotReadyError(f"not installed: {program}. Try: apt-get install {PACKAGES[program]}")
    return path


def require_files(exchanges: int, idle: int = 0) -> int:
    """Let the programs that are started from here have so many files open; say how many.

    They shall be enough for `exchanges` at once, and for `idle` connections as far as the system allows.

    Raises:
        NotReadyError: the system's limit is too low for the exchanges.
    """
    needed = 2 * exchanges + FILES_BESIDES  # a proxy has two connections for each
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    if not unlimited and hard < needed:
        raise NotReadyError(f"{exchanges} streams need {needed} open files; the limit is {hard} (ulimit -Hn)")
    wanted = max(needed, idle + FILES_BESIDES)
    files = wanted if unlimited else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return files


def room_for(idle: int, files: int) -> int:
    """How many of `idle` connections a program holds that may have `files` open."""
    return min(idle, files - FILES_BESIDES)
