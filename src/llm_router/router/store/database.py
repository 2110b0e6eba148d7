"""What keeps the router's memory: a file of SQLite's, or a PostgreSQL that any number of replicas share.

Rule 1: the event loop waits for no statement; callers hand a function of a connection to `run`. What it does besides
        may hold up the loop (on PostgreSQL it runs there): it reads a hundred rows, not thousands.
Rule 2: what a caller awaited is done before what it asks for next. Two that nobody waited for are done in any order.
Rule 3: a caller that is cancelled leaves its work under way.
"""

from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from llm_router.config import RouterConfig
from llm_router.core.usage import RequestRecord
from llm_router.router.store.sqlite import SqliteDatabase

P = ParamSpec("P")
T = TypeVar("T")


class Database(Protocol):
    """`open` before use, `close` after. `shared`: other routers may read and write the same."""

    url: str
    shared: bool

    async def open(self) -> None:
        """Create what is missing and bring the schema up to date.

        Raises:
            ConfigError: the database cannot be opened or upgraded; the message says why.
        """

    async def run(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work(connection, *args)`, in one transaction.

        Raises:
            NotNow: nothing of it was done, or nobody knows: it is worth another try.
            SQLAlchemyError: nothing of it was done.
        """

    async def append(self, requests: Sequence[RequestRecord]) -> None:
        """Add `requests`, in their order and in one transaction. Not to be called again meanwhile.

        Raises:
            NotNow: nothing of it was done, or nobody knows: it is worth another try.
            Rejected, OverflowError, ValueError: nothing of it was done, and never will be.
        """

    async def close(self) -> None:
        """Finish what was handed over, then close the connections."""


def database_of(config: RouterConfig, replica: str) -> Database:
    """The one that the settings ask for; `replica`: who writes, where several do.

    Raises:
        ConfigError: `database_url` cannot be used.
    """
    if not config.database_url:
        return SqliteDatabase(config.home / "router" / "router.db")
    from llm_router.router.store.postgres import PostgresDatabase  # noqa: PLC0415 - 20 MB for who has a file of SQLite's

    return PostgresDatabase(config.database_url, replica)
