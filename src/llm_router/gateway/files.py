"""How many files this process may have open, and how many clients that is enough for."""

import sys

if sys.platform != "win32":  # whose sockets are no files, and have no such limit
    import resource

LINGERERS = 64  # connections that are over but for what their clients still send (`farewell.py`)
# Files kept back from clients: those, and 64 of our own (listener, control app, database, looks at nodes, a model that
# is being downloaded, pipes to what we started).
RESERVE = LINGERERS + 64
PER_CLIENT = 2  # each may need a connection upstream
ENOUGH = 1_048_576  # files; the most that Linux gives a process unless told otherwise (fs.nr_open)
MODEST = 10_240  # what macOS means by "no limit" (OPEN_MAX)


def raise_limit() -> None:
    """Take what the system gives whoever asks: the usual 1,024 are there for programs that call select()."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    for files in (ENOUGH, MODEST):
        wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, soft), hard))
        except (OSError, ValueError):  # more than the kernel gives to anybody
            continue
        return


def connections() -> int:
    """How many clients the present limit allows; at least one."""
    if sys.platform == "win32":
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(1, (soft - RESERVE) // PER_CLIENT)
