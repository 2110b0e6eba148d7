"""One replica's registry, with what follows from what the others say; and what they have written."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import aiohttp
import msgspec
from tests.router.fake_node import FakeNode

from llm_router.config import RouterConfig
from llm_router.contract import NodeKind
from llm_router.core.health import State
from llm_router.core.node import Node
from llm_router.core.registry import Registry
from llm_router.router.credentials import Credentials
from llm_router.router.following.nodes import NodesElsewhere
from llm_router.router.ledger import Ledger
from llm_router.router.prober import Prober
from llm_router.router.publisher import Publisher
from llm_router.router.replicas.base import Alone
from llm_router.router.rows import snapshot
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import StoredNode


class Here:
    """One of several replicas; its `elsewhere` is told what the others say."""

    def __init__(self, database: Database, session: aiohttp.ClientSession, config: RouterConfig) -> None:
        self.database = database
        self.registry = Registry()
        self.credentials = Credentials()
        self.ledger = Ledger(database, partial(snapshot, self.registry, self.credentials))
        self.publish = Publisher(self.ledger, Alone())
        self.publish.also(self._happened)
        self.prober = Prober(self.registry, session, config, self.publish.heard, Alone())
        self.elsewhere = NodesElsewhere(self.registry, self.credentials, self.prober, self.publish, self.ledger)
        self._changed = asyncio.Event()

    def _happened(self) -> None:
        self._changed.set()

    def node(self, node_id: str = "n1") -> Node:
        return self.registry.nodes[node_id]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a change after which this is so."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def becomes(self, state: State) -> None:
        """Wait until the node is that."""
        await self.until(lambda: self.node().state is state)

    async def rows(self) -> list[StoredNode]:
        """What there is on record of nodes."""
        await self.ledger.flush()
        return await self.database.run(queries.load_nodes)

    async def events(self) -> list[str]:
        """What this replica has put on record."""
        await self.ledger.flush()
        return [event.event for event in await self.database.run(queries.latest_events, 99)][::-1]


def row(fake: FakeNode, kind: NodeKind = "agent", **different: object) -> StoredNode:
    """A node's, as another replica has written it."""
    written = StoredNode(
        id="n1",
        name="box",
        kind=kind,
        url=fake.address.url,
        runtimes=[],
        slots=3,
        os="linux",
        local=True,
        state=State.ONLINE,
        models=["m"],
        last_seen=time.time(),
        secret_hash="hash" if kind == "agent" else "",
        secret_proven=kind == "agent",
        registered=100.0 if kind == "agent" else 0.0,
    )
    return msgspec.structs.replace(written, **different)
