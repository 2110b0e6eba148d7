"""The requests that other replicas have answered, for those who watch live: read from the history they write."""

from collections import deque
from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from llm_router.router.ledger import BATCH
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import KeptRequest

# Rows that are looked back at: numbers are given out before rows can be seen, so of several replicas' batches the one
# with the lower numbers may appear last.
BACK = 4 * BATCH
MOST = 250  # rows of one reading, the newest: 3 ms of the event loop each second, while somebody watches


class HistoryElsewhere:
    """Asked now and then for what is new."""

    def __init__(self, database: Database, replica: str) -> None:
        """`replica`: the name of this one, whose requests are left out."""
        self._database = database
        self._replica = replica
        self._start: int | None = None
        self._told: deque[int] = deque(maxlen=BACK + MOST)

    async def fresh(self) -> Sequence[KeptRequest]:
        """What was not told yet, oldest first; nothing the first time, and while the database does not answer."""
        try:
            last = await self._database.run(queries.last_request)
            if self._start is None:
                self._start = last
            after = max(self._start, last - BACK)
            rows = await self._database.run(queries.newer_requests, after, self._replica, MOST)
        except SQLAlchemyError:  # the ledger tells of it
            return ()
        told = frozenset(self._told)
        new = [row for row in rows if row.seq not in told]
        self._told.extend(row.seq for row in new)
        return new

    def forget(self) -> None:
        """Nobody watches any more: whoever comes next is told of what happens from then on."""
        self._start = None
        self._told.clear()
