"""What each of Ollama's model endpoints does on a node.

    endpoint        a model of llama.cpp's             otherwise
    show            what its file says                 the Ollama that has it says it
    pull            the catalogue's: it is fetched     the Ollama fetches it
    delete, copy    the store does it                  every Ollama that has it does
    push            refused                            the Ollama that has it does
    create, blobs   -                                  the Ollama does
    unload          it is let go                       every Ollama that has it does

An Ollama is asked as we were asked, and its answer is passed on as it came. Once it has another model, or one less, the
node's list says so before whoever asked is told that it is done.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing
from datetime import UTC, datetime

import aiohttp
import msgspec
from litestar import MediaType, Response

from llm_router.core.node import Node
from llm_router.core.registry import IN_ROTATION, Registry
from llm_router.errors import BadRequest, ModelNotFound, NoCapableNodes, RouterError
from llm_router.models.names import check
from llm_router.models.ollama.asked import Copy, Create, Named, read, resolved, with_fields
from llm_router.models.ollama.calls import SUCCESS, Calls, Lines, Refused, Server, answered, said, then
from llm_router.models.ollama.lists import KEPT, loaded_by
from llm_router.node.ollama_api.pulls import Pulls
from llm_router.node.ollama_api.shown import shown
from llm_router.node.runtimes.all import Runtimes
from llm_router.wire.dialects import ollama
from llm_router.wire.wishes import Wishes

BLOBS = "/api/blobs/"


class NodeActions:
    """One for the node."""

    def __init__(self, registry: Registry, runtimes: Runtimes, session: aiohttp.ClientSession, pulls: Pulls) -> None:
        self._registry = registry
        self._runtimes = runtimes
        self._calls = Calls(session)
        self._pulls = pulls
        self._since = datetime.now(UTC).isoformat()

    # -- what there is

    def tags(self) -> ollama.Tags:
        """Every model that can be asked for now."""
        return ollama.tags(map(self._runtimes.describe, self._registry.available()), self._since)

    async def ps(self) -> ollama.Ps:
        """Those in memory: what an Ollama has there, it says itself."""
        servers = [_server(upstream) for upstream in self._ollamas()]
        told = await asyncio.gather(*(loaded_by(self._calls, server) for server in servers))
        expires = (datetime.now(UTC) + KEPT).isoformat()
        theirs = {model for upstream in self._ollamas() for model in upstream.models}
        others = (self._runtimes.describe(model) for model in self._runtimes.loaded() if model not in theirs)
        ours = [ollama.ps_model(entry, expires) for entry in others]
        return ollama.ps([*ours, *(model for models in told for model in models or ())])

    async def show(self, body: bytes) -> Response[bytes]:
        """What is known of a model; nothing is fetched for that."""
        asked = read(body, Named)
        model = resolved(asked.wanted, self._registry)
        upstreams = self._listing(model)
        if not upstreams:
            raise ModelNotFound(f"model '{asked.wanted}' not found")
        theirs = [upstream for upstream in self._ollamas() if model in upstream.models]
        if theirs:
            answer = await self._calls.ask(_server(theirs[0]), "POST", "/api/show", with_fields(body, model=model))
        else:
            answer = msgspec.json.encode(shown(self._runtimes.find(model), self._runtimes.describe(model)))
        return Response(answer, media_type=MediaType.JSON)

    # -- what changes it

    async def pull(self, body: bytes) -> Response[bytes]:
        """Fetch a model, or what is new of it."""
        asked = read(body, Named)
        model = resolved(asked.wanted, self._registry)
        if any(upstream.kind == "llamacpp" for upstream in self._listing(model)):
            return await answered(self._fetched(model), stream=asked.streams)
        server = self._ollama(f"to pull '{asked.wanted}'; the models of the catalogue need none")
        lines = self._calls.records(server, "/api/pull", with_fields(body, stream=True))
        followed = self._pulls.follow(asked.wanted, lines)
        return await answered(then(followed, self._runtimes.rescan), stream=asked.streams)

    async def _fetched(self, model: str) -> Lines:
        """A model of the catalogue, in the words that Ollama has for one of its library."""
        yield said(status="pulling manifest")
        digest = f"sha256:{ollama.digest(model)}"
        try:
            if not self._holding(model):
                async with aclosing(self._runtimes.fetcher.follow(model)) as steps:
                    async for step in steps:
                        at = {"digest": digest, "total": step.total, "completed": step.done}
                        yield said(status=f"pulling {ollama.digest(model)[:12]}", **at)
        except RouterError as error:
            yield said(error=error.message)
        else:
            yield said(status=SUCCESS)

    async def delete(self, body: bytes) -> None:
        """Delete a model, wherever it lies here."""
        asked = read(body, Named)
        model = resolved(asked.wanted, self._registry)
        holders = self._holding(model)
        if not holders:
            raise ModelNotFound(f"model '{asked.wanted}' not found")
        of_ollama = with_fields(body, model=model)
        self._runtimes.fetcher.offers.let_go(model)
        await self._change(
            [
                self._calls.ask(_server(upstream), "DELETE", "/api/delete", of_ollama)
                if upstream.kind == "ollama"
                else asyncio.to_thread(self._runtimes.store.delete, model)
                for upstream in holders
            ]
        )

    async def copy(self, body: bytes) -> None:
        """Give a model a second name, wherever it lies here."""
        asked = read(body, Copy)
        source = resolved(asked.source, self._registry)
        holders = self._holding(source)
        if not holders:
            raise ModelNotFound(f"model '{asked.source}' not found")
        if any(upstream.kind == "llamacpp" for upstream in holders):
            check(asked.destination)
        of_ollama = with_fields(body, source=source)
        await self._change(
            [
                self._calls.ask(_server(upstream), "POST", "/api/copy", of_ollama)
                if upstream.kind == "ollama"
                else asyncio.to_thread(self._runtimes.store.copy, source, asked.destination)
                for upstream in holders
            ]
        )

    async def _change(self, changes: list[Awaitable[object]]) -> None:
        """Do all of it, whatever comes of one; then the list is what it should be. Raises what the first one raised."""
        outcomes = await asyncio.gather(*changes, return_exceptions=True)
        await self._runtimes.rescan()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def create(self, body: bytes) -> Response[bytes]:
        """Make a model of another one, or of files that were sent before."""
        asked = read(body, Create)
        server = self._ollama(f"to create '{asked.wanted}'")
        lines = self._calls.records(server, "/api/create", with_fields(body, stream=True))
        return await answered(then(lines, self._runtimes.rescan), stream=asked.streams)

    async def push(self, body: bytes) -> Response[bytes]:
        """Send a model to a registry."""
        asked = read(body, Named)
        model = resolved(asked.wanted, self._registry)
        holders = self._holding(model)
        if not holders:
            raise ModelNotFound(f"model '{asked.wanted}' not found")
        of_ollama = [upstream for upstream in holders if upstream.kind == "ollama"]
        if not of_ollama:
            raise BadRequest(f"model '{model}' is llama.cpp's, which pushes nothing: that takes a model of an Ollama")
        lines = self._calls.records(_server(of_ollama[0]), "/api/push", with_fields(body, model=model, stream=True))
        return await answered(lines, stream=asked.streams)

    async def has_blob(self, digest: str) -> bool:
        """Whether the Ollama has this blob; the digest is known to be one.

        Raises:
            Refused, UpstreamFailed: it does not say.
        """
        try:
            await self._calls.ask(self._ollama("to create a model"), "HEAD", BLOBS + digest)
        except Refused as refused:
            if refused.status == 404:
                return False
            raise
        return True

    async def take_blob(self, digest: str, blocks: Lines) -> int:
        """Pass a blob on to the Ollama as it comes; the status of its answer."""
        return await self._calls.send(self._ollama("to create a model"), BLOBS + digest, blocks)

    async def unload(self, body: bytes) -> str:
        """Have a model leave the memory; its name, as the client wrote it."""
        asked = read(body, Named)
        model = resolved(asked.wanted, self._registry)
        upstreams = self._listing(model)
        if not upstreams:
            raise ModelNotFound(f"model '{asked.wanted}' not found")
        in_memory = model in self._runtimes.loaded()  # of what is not, nobody shall remember that it was to go
        for upstream in upstreams:
            if upstream.kind == "llamacpp" and in_memory:
                self._runtimes.prepare(upstream.id, Wishes(keep_alive=0.0))
        gone = with_fields(body, model=model, stream=False)
        path = "/api/generate"  # which takes the model out of memory as /api/chat does
        theirs = [u for u in upstreams if u.kind == "ollama" and u.address is not None]
        await asyncio.gather(*(self._calls.ask(_server(upstream), "POST", path, gone) for upstream in theirs))
        return asked.wanted

    # -- who has what

    def _listing(self, model: str) -> list[Node]:
        return [upstream for upstream in self._registry if model in upstream.models]

    def _holding(self, model: str) -> list[Node]:
        """Those that have it, and let us do with it what we like; not those that would have to fetch it first."""
        ours = [u for u in self._registry if u.kind == "llamacpp" and model not in u.absent]
        return [upstream for upstream in (*self._ollamas(), *ours) if model in upstream.models]

    def _ollamas(self) -> list[Node]:
        """Those that serve; the node's own first, whose id is the shortest."""
        found = [u for u in self._registry if u.kind == "ollama" and u.address is not None and u.state in IN_ROTATION]
        return sorted(found, key=lambda upstream: upstream.id)

    def _ollama(self, what_for: str) -> Server:
        found = self._ollamas()
        if not found:
            raise NoCapableNodes(f"this node has no Ollama that runs, which it takes {what_for}")
        return _server(found[0])


def _server(upstream: Node) -> Server:
    assert upstream.address is not None  # noqa: S101 - see `_ollamas`
    return Server("Ollama", upstream.address.url)
