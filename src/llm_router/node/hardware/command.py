"""Asks a tool of the system. It may take seconds: not for the event loop."""

import subprocess

NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # an agent that runs as a service must not flash a console


def output(*command: str, within: float) -> str:
    """What it printed, however it ended; nothing where there is no such tool or it takes longer than `within` s."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command, no words of others
            command,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            timeout=within,
            creationflags=NO_WINDOW,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
