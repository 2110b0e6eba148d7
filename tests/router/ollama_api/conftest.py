"""A fleet of doubles behind the router's own routes."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest
from tests.doubles.control import Client, running
from tests.doubles.ollama_library import OllamaLibrary

from llm_router.contract import Gpu, Heartbeat, NodeKind, RuntimeFacts, parse_address
from llm_router.core.health import State
from llm_router.core.node import EVERY_DIALECT, Node
from llm_router.core.registry import Registry
from llm_router.gateway.probe import pull_models
from llm_router.router.ollama_api import router_ollama_routes
from llm_router.router.ollama_api.actions import Nodes


class Fleet:
    """The nodes by name, each with what runs there; `looked`: the ids of those that were looked at, in order."""

    def __init__(self, stack: AsyncExitStack, session: aiohttp.ClientSession) -> None:
        self.registry = Registry()
        self.looked: list[str] = []
        self._stack = stack
        self._session = session

    async def node(
        self, name: str, *models: str, kind: NodeKind = "agent", ollama: bool = True, memory: int = 0
    ) -> OllamaLibrary:
        """Add one; `memory`: bytes of its graphics processor. An agent lets in nobody but who shows its token."""
        token = f"of-{name}" if kind == "agent" else ""
        library = await self._stack.enter_async_context(OllamaLibrary(*models, token=token))
        facts = [RuntimeFacts("llamacpp"), *([RuntimeFacts("ollama")] if ollama else [])]
        node = Node(f"id-{name}", name, kind, parse_address(library.url), dialects=EVERY_DIALECT, runtimes=facts)
        node.state = State.ONLINE
        node.let_in_by(token)
        self.registry.add(node, time.monotonic())
        self.registry.heartbeat(node.id, Heartbeat(gpus=[Gpu("g", memory)]), time.monotonic())
        await self.look(node.id)
        return library

    def loads(self, name: str, *models: str) -> None:
        """The node reports that it has these in memory."""
        self.registry.heartbeat(f"id-{name}", Heartbeat(loaded=list(models)), time.monotonic())

    def listed(self, name: str) -> tuple[str, ...]:
        """The node's models, as the router knows them."""
        return self.registry.nodes[f"id-{name}"].models

    async def look(self, node_id: str) -> None:
        """As the prober does it."""
        node = self.registry.nodes[node_id]
        assert node.address is not None
        self.looked.append(node_id)
        kind: NodeKind = "ollama" if node.kind == "ollama" else "agent"
        listing = await pull_models(self._session, kind, node.address, 5, node.token)
        self.registry.list_models(node_id, listing.models, time.monotonic(), listing.entries)


Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def fleet(stack: AsyncExitStack, session: aiohttp.ClientSession) -> Fleet:
    return Fleet(stack, session)


@pytest.fixture
async def client(stack: AsyncExitStack, fleet: Fleet, session: aiohttp.ClientSession) -> Client:
    """Of a router that has a model fetched by one node."""
    routes = router_ollama_routes(Nodes(fleet.registry, session, every=False, look=fleet.look))
    return await stack.enter_async_context(running(routes))


@pytest.fixture
async def of_all(stack: AsyncExitStack, fleet: Fleet, session: aiohttp.ClientSession) -> Client:
    """Of a router that has a model fetched by all that can."""
    routes = router_ollama_routes(Nodes(fleet.registry, session, every=True, look=fleet.look))
    return await stack.enter_async_context(running(routes))
