"""What each of Ollama's model endpoints does on a router; `choosing.py` says which nodes are asked.

A node is asked as we were asked. Before whoever asked is told that it is done, the node's list of models is looked at
again, so that what comes next finds it as it is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp
from litestar import Response

from llm_router.contract import ModelEntry
from llm_router.core.node import Node
from llm_router.core.registry import Registry
from llm_router.errors import BadRequest, ModelNotFound, UpstreamFailed
from llm_router.models.ollama.asked import Copy, Create, Named, read, resolved, with_fields
from llm_router.models.ollama.calls import Calls, Lines, Refused, Server, answered, record, then
from llm_router.models.ollama.lists import KEPT, loaded_by
from llm_router.router.ollama_api import choosing
from llm_router.router.ollama_api.merging import Merged
from llm_router.router.ollama_api.places import Places
from llm_router.wire.dialects import ollama

BLOBS = "/api/blobs/"
LOOK_WITHIN = 5.0  # seconds for a node to say whether it has a blob; one that does not is asked for it
WAITING = 100  # records that may wait for a slow client before the nodes are read no further


class Nodes:
    """What requests share: the nodes, and how they are asked."""

    def __init__(
        self,
        registry: Registry,
        session: aiohttp.ClientSession,
        *,
        every: bool,
        look: Callable[[str], Awaitable[None]],
    ) -> None:
        """`every`: a model is fetched by all that can, where none is named. `look`: brings a node's list up to date."""
        self.registry = registry
        self.calls = Calls(session)
        self.every = every
        self.look = look
        self.places = Places()
        self.since = datetime.now(UTC).isoformat()

    async def look_at(self, nodes: Iterable[Node]) -> None:
        """Bring the lists of all of them up to date."""
        await asyncio.gather(*(self.look(node.id) for node in nodes if node.id in self.registry.nodes))


class RouterActions:
    """What one request wants. `wanted`: the id or name of the node that it names, "" for none."""

    def __init__(self, nodes: Nodes, wanted: str, client: str) -> None:
        self._nodes = nodes
        self._registry = nodes.registry
        self._calls = nodes.calls
        self._wanted = wanted
        self._client = client

    # -- what there is

    def tags(self) -> ollama.Tags:
        """Every model that can be asked for now; of several of one name, one that is stored, and the newest."""
        available = self._registry.available()
        return ollama.tags((_entry(model, nodes) for model, nodes in available.items()), self._nodes.since)

    async def ps(self) -> ollama.Ps:
        """What the nodes say that have something in memory; of those that do not say, what they last reported."""
        holding = [node for node in choosing.meant(self._registry, self._wanted) if node.warm]
        told = await asyncio.gather(*(loaded_by(self._calls, server(node)) for node in holding))
        silent = [node for node, models in zip(holding, told, strict=True) if models is None]
        if not self._wanted:
            silent += [node for node in self._registry if node.warm and node.kind == "openai"]
        expires = (datetime.now(UTC) + KEPT).isoformat()
        reported = (ollama.ps_model(_entry(model, [node]), expires) for node in silent for model in node.report.loaded)
        return ollama.ps([*(model for models in told for model in models or ()), *reported])

    # -- what is fetched and made

    async def pull(self, body: bytes) -> Response[Any]:
        """Have a model fetched."""
        asked = read(body, Named)
        nodes = choosing.to_pull(self._registry, asked.wanted, self._wanted, every=self._nodes.every)
        streamed = with_fields(body, stream=True)
        lines = [self._calls.records(server(node), "/api/pull", streamed) for node in nodes]
        if len(nodes) == 1:
            return await answered(then(lines[0], partial(self._nodes.look_at, nodes)), stream=asked.streams)
        return await answered(self._merged(nodes, lines), stream=asked.streams)

    async def _merged(self, nodes: Sequence[Node], lines: Sequence[Lines]) -> Lines:
        merged = Merged([node.name for node in nodes])
        async with _together(lines) as came:
            async for number, line in came:
                told = merged.take(number, record(line))
                if told is not None:
                    yield told
        await self._nodes.look_at(nodes[number] for number in merged.succeeded)
        yield merged.last()

    async def push(self, body: bytes) -> Response[Any]:
        """Have a model sent to a registry, by a node that has it in an Ollama."""
        asked = read(body, Named)
        model, nodes = choosing.to_change(self._registry, asked.wanted, self._wanted)
        able = choosing.having_ollama(nodes)
        if not able:
            raise BadRequest(f"model '{model}' lies on no node with an Ollama, which it takes to push it")
        chosen = server(choosing.best(able))
        lines = self._calls.records(chosen, "/api/push", with_fields(body, model=model, stream=True))
        return await answered(lines, stream=asked.streams)

    async def create(self, body: bytes) -> Response[Any]:
        """Have a model made, where its files are."""
        asked = read(body, Create)
        node = await self._maker(asked)
        lines = self._calls.records(server(node), "/api/create", with_fields(body, stream=True))
        return await answered(then(lines, partial(self._nodes.look_at, [node])), stream=asked.streams)

    async def _maker(self, asked: Create) -> Node:
        able = choosing.to_create(self._registry, self._wanted)
        for digest in asked.digests:
            able = await self._having(able, digest)
        if not able:
            raise BadRequest(f"no node has all of its files: send each to {BLOBS}{{digest}} first")
        base = resolved(asked.from_, self._registry) if asked.from_ else ""
        return self._last_used(able) if asked.digests else choosing.best(able, base)

    # -- blobs

    async def has_blob(self, digest: str) -> bool:
        """Whether it is where the others are of which this client is about to create a model.

        Those are still to come where it has sent none lately: then any node that has this one is as good.
        """
        able = choosing.to_create(self._registry, self._wanted)
        found = await self._having(able, digest)
        used = self._used(able)  # asked after the wait: another of its blobs may have been found meanwhile
        if used is not None:
            return used in found
        if found:
            self._remember(choosing.best(found))
        return bool(found)

    async def take_blob(self, digest: str, blocks: Lines) -> int:
        """Pass it on as it comes."""
        node = self._last_used(choosing.to_create(self._registry, self._wanted))
        self._remember(node)
        return await self._calls.send(server(node), BLOBS + digest, blocks)

    async def _having(self, nodes: Sequence[Node], digest: str) -> list[Node]:
        has = await asyncio.gather(*(self._calls.has(server(node), BLOBS + digest, LOOK_WITHIN) for node in nodes))
        return [node for node, yes in zip(nodes, has, strict=True) if yes]

    def _used(self, nodes: Iterable[Node]) -> Node | None:
        last = self._nodes.places.of(self._client, time.monotonic())
        return next((node for node in nodes if node.id == last), None)

    def _last_used(self, nodes: Sequence[Node]) -> Node:
        return self._used(nodes) or choosing.best(nodes)

    def _remember(self, node: Node) -> None:
        self._nodes.places.put(self._client, node.id, time.monotonic())

    # -- what is changed wherever it lies

    async def delete(self, body: bytes) -> None:
        """Have a model deleted."""
        asked = read(body, Named)
        model, nodes = choosing.to_change(self._registry, asked.wanted, self._wanted)
        await self._change(nodes, "DELETE", "/api/delete", with_fields(body, model=model), asked.wanted)

    async def copy(self, body: bytes) -> None:
        """Have a model given a second name."""
        asked = read(body, Copy)
        source, nodes = choosing.to_change(self._registry, asked.source, self._wanted)
        await self._change(nodes, "POST", "/api/copy", with_fields(body, source=source), asked.source)

    async def _change(self, nodes: Sequence[Node], method: str, path: str, body: bytes, name: str) -> None:
        """Ask all of them, whatever one says; who does not have the model any more has nothing to do.

        Raises:
            ModelNotFound: none of them has.
            Refused, UpstreamFailed: one could not; its name stands before what it said.
        """
        calls = (self._calls.ask(server(node), method, path, body) for node in nodes)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        await self._nodes.look_at(nodes)
        missing = [o for o in outcomes if isinstance(o, Refused) and o.status == 404]
        if len(missing) == len(nodes):
            raise ModelNotFound(f"model '{name}' not found")
        for node, outcome in zip(nodes, outcomes, strict=True):
            if outcome not in missing:
                _raise(node, outcome)

    async def unload(self, body: bytes) -> str:
        """Have a model leave the memory of every node that has it there."""
        asked = read(body, Named)
        model = resolved(asked.wanted, self._registry)
        if model not in self._registry:
            raise ModelNotFound(f"model '{asked.wanted}' not found")
        nodes = [node for node in choosing.meant(self._registry, self._wanted) if model in node.warm]
        gone = with_fields(body, model=model, stream=False)
        path = "/api/generate"  # which takes it out of memory as /api/chat does
        calls = (self._calls.ask(server(node), "POST", path, gone) for node in nodes)
        for node, outcome in zip(nodes, await asyncio.gather(*calls, return_exceptions=True), strict=True):
            _raise(node, outcome)
        return asked.wanted


def server(node: Node) -> Server:
    """How it is asked."""
    assert node.address is not None  # noqa: S101 - see `choosing.serving`
    return Server(f"node '{node.name}'", node.address.url, node.token)


def _entry(model: str, nodes: Iterable[Node]) -> ModelEntry:
    """What one of them told of it: one that has it, and the newest."""
    told = [node.entries[model] for node in nodes if model in node.entries]
    newest = lambda entry: (entry.stored is not False, ollama.moment(entry.modified or ""))  # noqa: E731 - asked once
    return max(told, key=newest, default=ModelEntry(model))


def _raise(node: Node, outcome: object) -> None:
    if isinstance(outcome, Refused):
        raise Refused(outcome.status, f"{node.name}: {outcome.message}")
    if isinstance(outcome, BaseException):
        raise outcome


@asynccontextmanager
async def _together(lines: Sequence[Lines]) -> AsyncIterator[AsyncIterator[tuple[int, bytes]]]:
    """What comes from each, with its number; one that fails has an error as its last line."""
    came: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(WAITING)
    tasks = [asyncio.create_task(_read(number, some, came)) for number, some in enumerate(lines)]
    try:
        yield _from(came, len(tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(number: int, lines: Lines, came: asyncio.Queue[tuple[int, bytes] | None]) -> None:
    try:
        async with aclosing(lines) as running:
            async for line in running:
                await came.put((number, line))
    except (Refused, UpstreamFailed) as error:
        await came.put((number, ollama.failure(error.message)))
    await came.put(None)


async def _from(came: asyncio.Queue[tuple[int, bytes] | None], many: int) -> AsyncIterator[tuple[int, bytes]]:
    open_ = many
    while open_:
        entry = await came.get()
        if entry is None:
            open_ -= 1
        else:
            yield entry
