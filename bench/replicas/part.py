"""A replica without its gateway: registry, ledger, bus and tables, put together as `router.app` does."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import aiohttp

from llm_router.config import RouterConfig
from llm_router.contract import Address, Gpu, Heartbeat, RuntimeFacts
from llm_router.core.elsewhere import Elsewhere
from llm_router.core.health import State
from llm_router.core.node import EVERY_DIALECT, Node
from llm_router.core.registry import Registry
from llm_router.gateway.trust import Trust
from llm_router.router.credentials import Credentials
from llm_router.router.fleet import Fleet
from llm_router.router.following.nodes import NodesElsewhere
from llm_router.router.following.tables import Tables
from llm_router.router.join_keeping import keeping_of
from llm_router.router.joining import Door, JoinToken
from llm_router.router.ledger import Ledger
from llm_router.router.prober import Prober
from llm_router.router.publisher import Publisher
from llm_router.router.replicas import messages
from llm_router.router.replicas.among import Among
from llm_router.router.replicas.bus import Bus
from llm_router.router.replicas.messages import Message
from llm_router.router.rows import snapshot
from llm_router.router.store.postgres import PostgresDatabase
from llm_router.router.store.queries import StoredNode

MODELS_EACH = 20  # that a node lists
MODELS = 400
GB = 1_000_000_000
REPORT = Heartbeat(
    cpu=30.0,
    memory=40.0,
    memory_total=64 * GB,
    slots=4,
    loaded=["llama3:8b", "qwen3:4b"],
    gpus=[Gpu("NVIDIA GeForce RTX 4090", 24 * GB, 12 * GB, 40.0, 50.0, "cuda", "550.54", "8.9")],
)


def node(number: int) -> Node:
    """One with an agent, that answers."""
    models = [f"model-{(number + k * MODELS // MODELS_EACH) % MODELS}:8b" for k in range(MODELS_EACH)]
    id_, name, address = node_id(number), f"machine-{number:05}", Address("10.0.0.1", 11435)
    runtimes = (RuntimeFacts("ollama", "0.12.0"),)
    return Node(
        id_,
        name,
        "agent",
        address,
        dialects=EVERY_DIALECT,
        runtimes=runtimes,
        slots=4,
        state=State.ONLINE,
        models=models,
    )


def node_id(number: int) -> str:
    """As long as those that agents make."""
    return f"{number:032x}"


class Part:
    """One of several. `heard` is set when something was heard, or read after it was told of."""

    def __init__(self, name: str, url: str, session: aiohttp.ClientSession) -> None:
        config = RouterConfig(database_url=url)
        self.registry = Registry()
        self.elsewhere = Elsewhere(self.registry, name, dict)
        self.among = Among(Bus(url, name), self.elsewhere)
        self.database = PostgresDatabase(url, name)
        self.credentials = Credentials()
        self.ledger = Ledger(self.database, partial(snapshot, self.registry, self.credentials))
        self.ledger.letters = lambda ids: [
            text for text, _ in messages.packed(name, messages.rows(ids, self.among.is_here))
        ]
        publish = Publisher(self.ledger, self.among)
        prober = Prober(self.registry, session, config, publish.noticed, self.among)
        door = Door(JoinToken(keeping_of(config, self.database)), Trust(config.trust), config.join)
        self.fleet = Fleet(
            self.registry, self.credentials, prober, publish, ledger=self.ledger, door=door, replicas=self.among
        )
        self.nodes = NodesElsewhere(self.registry, self.credentials, prober, publish, self.ledger)
        self.tables = Tables(self.database, self.ledger, self._read, lambda: self.registry.nodes, {})
        self.heard = asyncio.Event()
        self._hears: dict[type, Callable[[Any], None]] = {
            messages.Rows: lambda message: self.tables.nodes(message.nodes),
            messages.Reported: self._reported,
        }

    def know(self, count: int) -> dict[str, str]:
        """That many nodes; their secrets by their ids."""
        for number in range(count):
            self.registry.add(node(number), time.monotonic())
        return {id_: self.credentials.issue(id_) for id_ in self.registry.nodes}

    def hear(self, sender: str, message: Message) -> None:
        """As `following.all.Ear`, of what is measured."""
        if isinstance(message, messages.Counted):
            self.elsewhere.heard(sender, message.counts, asyncio.get_running_loop().time())
        elif type(message) in self._hears:
            self._hears[type(message)](message)
        if not isinstance(message, messages.Rows):
            self.heard.set()

    def _reported(self, message: messages.Reported) -> None:
        self.among.reports_there(message.node, "another")
        self.nodes.reported(message)

    def _read(self, rows: list[StoredNode], ids: Collection[str]) -> None:
        self.nodes.rows(rows, ids)
        self.heard.set()


@asynccontextmanager
async def part(name: str, url: str, session: aiohttp.ClientSession) -> AsyncIterator[Part]:
    """One that is connected; its ledger writes when it is told to."""
    async with AsyncExitStack() as stack:
        one = Part(name, url, session)
        stack.push_async_callback(one.database.close)
        await one.database.open()
        one.tables.start()
        stack.push_async_callback(one.tables.stop)
        await one.among.bus.start(one.hear, lambda: None)
        stack.push_async_callback(one.among.bus.stop)
        yield one
