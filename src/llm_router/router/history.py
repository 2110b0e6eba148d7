"""Looks through what is on record, newest first, some at a time: nobody else waits long for the database."""

from collections.abc import AsyncIterator

from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import ANY_REQUEST, EventFilter, KeptEvent, KeptRequest, RequestFilter, Window
from llm_router.router.store.schema import BLOCK

SEARCHED = 64 * BLOCK  # requests that are looked at in one go: some 30 ms of the database's thread
READ = 250  # rows that are read in one go: 3 ms of the same, or of the event loop where the database is PostgreSQL
NO_LIMIT = 1 << 62


async def requests(
    database: Database, which: RequestFilter, limit: int = NO_LIMIT, before: int = 0
) -> AsyncIterator[list[KeptRequest]]:
    """What `which` describes, in pages; older than the one with the seq `before` if that is not 0."""
    there = await database.run(queries.whole, which, before)
    high = there.high
    while limit > 0 and high > there.low:
        low = there.low if which.is_indexed() else max(there.low, high - SEARCHED)
        size = min(limit, READ)
        page = await database.run(queries.latest_requests, size, which, Window(low, high))
        yield page
        limit -= len(page)
        high = page[-1].seq if len(page) == size else low


async def request(database: Database, id_: str) -> KeptRequest | None:
    """The newest request with this `x-request-id`."""
    there = await database.run(queries.whole, ANY_REQUEST)
    high = there.high
    while high > there.low:
        low = max(there.low, high - SEARCHED)
        found = await database.run(queries.one_request, id_, Window(low, high))
        if found:
            return found[0]
        high = low
    return None


async def events(
    database: Database, which: EventFilter, limit: int = NO_LIMIT, before: int = 0
) -> AsyncIterator[list[KeptEvent]]:
    """As `requests`; there are so few of them that one go finds a page."""
    while limit > 0:
        size = min(limit, READ)
        page = await database.run(queries.latest_events, size, which, before)
        yield page
        if len(page) < size:
            return
        limit -= size
        before = page[-1].seq
