"""What this machine has to have: programs of others, and room for open files."""

import os
import resource
import shutil

from bench.processes import NotReadyError

PACKAGES = {"nginx": "nginx-light", "wrk": "wrk", "cc": "gcc"}  # program -> Debian's package
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


def require_files(exchanges: int) -> int:
    """Let the programs that are started from here hold so many exchanges at once; say how many files that takes.

    Raises:
        NotReadyError: the system's limit is lower.
    """
    needed = 2 * exchanges + FILES_BESIDES  # a proxy has two connections for each
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise NotReadyError(f"{exchanges} streams need {needed} open files; the limit is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return needed
