"""Connections that lead nowhere but where an `Allowlist` lets them, whatever names resolve to (requirement H3).

The address that was checked is the one that is connected to, so that nobody can give another answer in between.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from llm_router.models.allow import Allowlist


@asynccontextmanager
async def guarded(allow: Allowlist) -> AsyncIterator[aiohttp.ClientSession]:
    """A session of its own: in a shared one there may be connections that others have opened without asking."""
    connector = aiohttp.TCPConnector(resolver=GuardedResolver(allow))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


class GuardedResolver(AbstractResolver):
    """Resolves as the system does, and leaves out what may not be connected to. Not asked about URLs with addresses."""

    def __init__(self, allow: Allowlist) -> None:
        self._allow = allow
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """What of the name may be connected to.

        Raises:
            OriginDenied: none of its addresses.
            OSError: it has none.
        """
        found = await self._resolver.resolve(host, port, family)
        allowed = self._allow.check_addresses(host, [(one["host"], one["port"]) for one in found])
        return [one for one in found if (one["host"], one["port"]) in allowed]

    async def close(self) -> None:
        """Of a system's resolver nothing is left open."""
        await self._resolver.close()
