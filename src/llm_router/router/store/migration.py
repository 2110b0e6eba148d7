"""Which schema a database has, and how it gets the newest: by a child process, since Alembic takes 14 MB."""

import asyncio
import sys
from asyncio.subprocess import PIPE

from sqlalchemy import Connection, inspect, text

from llm_router.errors import ConfigError
from llm_router.router.store.urls import shown

_PROGRAM = "llm_router.router.store.migrate"


def revision(connection: Connection) -> str | None:
    """The schema's revision as Alembic left it; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


async def bring_up_to_date(url: str) -> None:
    """Create what is missing and apply what is new. It takes as long as it takes: a big table may be rewritten.

    Raises:
        ConfigError: it cannot be done; the message says why.
    """
    # The URL goes by standard input: everybody on a machine can see its command lines, and it may hold a password.
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", _PROGRAM, stdin=PIPE, stderr=PIPE)
    _, stderr = await child.communicate(url.encode())
    if child.returncode:
        reason = (stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise ConfigError(f"the database {shown(url)} cannot be brought up to date: {reason}")
