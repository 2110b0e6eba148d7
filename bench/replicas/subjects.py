"""What is asked: a router with SQLite, a replica alone, and one of two of which the other has nothing to do."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import msgspec

from bench.data_plane.meter import Meter
from bench.data_plane.subjects import router
from bench.replicas.database import postgres
from bench.replicas.results import ALONE, ONE_OF_TWO, SQLITE


class Subject(msgspec.Struct, frozen=True):
    """Where a router is asked, and its meter; `postgres`: its server's, where it has one."""

    name: str
    url: str
    router: Meter
    postgres: Meter | None = None


@asynccontextmanager
async def subjects(session: aiohttp.ClientSession, ports: Sequence[int], home: Path) -> AsyncIterator[list[Subject]]:
    """All three, running; upstreams at `ports`. Each kind has a PostgreSQL of its own, so that nobody pays for another.

    Raises:
        NotReadyError: one of them is not.
    """
    async with AsyncExitStack() as stack:
        start = partial(_start, stack, session, ports, home)
        plain = await start(SQLITE, "")
        cluster, alone = await stack.enter_async_context(postgres())
        single = await start(ALONE, cluster.create())
        cluster, shared = await stack.enter_async_context(postgres())
        url = cluster.create()
        one = await start(ONE_OF_TWO, url)
        await start("the other", url)
        yield [
            plain,
            msgspec.structs.replace(single, postgres=alone),
            msgspec.structs.replace(one, postgres=shared),
        ]


async def _start(
    stack: AsyncExitStack,
    session: aiohttp.ClientSession,
    ports: Sequence[int],
    home: Path,
    name: str,
    database: str,
) -> Subject:
    """One router, until `stack` ends."""
    own = home / name
    own.mkdir()
    found = await stack.enter_async_context(router(session, ports, 0, own, name=name, database=database))
    assert found.meter is not None
    return Subject(name, found.url, found.meter)
