"""Ollama's model endpoints on a node: those of its Ollama, and of the store that llama.cpp runs from."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import msgspec
import pytest
from aiohttp import web
from structlog.typing import FilteringBoundLogger
from tests.doubles.control import Client, running
from tests.doubles.ollama_library import DETAILS, FILE, MODIFIED, SIZE, OllamaLibrary
from tests.node.conftest import Journal

from llm_router.config import NodeConfig
from llm_router.core.registry import Registry
from llm_router.models.manifest import Manifest, ModelFile, Offer
from llm_router.node.hardware import Hardware
from llm_router.node.identity import Identity
from llm_router.node.models.builtin import NAME, model_bytes
from llm_router.node.models.offers import Offers
from llm_router.node.ollama_api import Pulls, node_ollama_routes
from llm_router.node.runtimes.all import make_runtimes

TRICKS = ["..", "../x", "a/../b", "/etc/x", "a\x00b", "%2e%2e/x", "c:\\x", "con", "a/nul.txt", "a//b", "a=b", "ä"]


class Node:
    """A node with llama.cpp, and perhaps with an Ollama of somebody's; `client` asks it as its router does."""

    def __init__(self, config: NodeConfig, session: aiohttp.ClientSession, log: FilteringBoundLogger) -> None:
        self.config = config
        self.registry = Registry()
        self._changed = asyncio.Event()
        self.pulls = Pulls()
        identity = Identity.load(config.home / "node" / "identity.json")
        self.offers = Offers(identity, session, log, self._nothing)
        self.runtimes = make_runtimes(
            self.registry,
            config,
            session,
            log,
            hardware=Hardware(),
            offers=self.offers,
            changed=self._changed.set,
            restarted=self._nothing,
        )
        self.routes = node_ollama_routes(self.registry, self.runtimes, session, self.pulls)
        self.client: Client

    def _nothing(self) -> None:
        """Nobody has to be told."""

    async def without(self, model: str) -> None:
        """Wait until this model is not in memory."""
        async with asyncio.timeout(10):
            while model in self.runtimes.loaded():
                self._changed.clear()
                await self._changed.wait()

    def files(self) -> list[str]:
        """What lies in the store."""
        store = self.config.home / "node" / "models"
        return sorted(path.relative_to(store).as_posix() for path in store.rglob("*.gguf"))

    async def offer(self, name: str, url: str, content: bytes) -> None:
        """The router's catalogue has this model."""
        file = ModelFile(f"{name}.gguf", len(content), hashlib.sha256(content).hexdigest(), url)
        self.offers.current[name] = Offer(Manifest(name, "gguf", [file], ["llamacpp"]))
        await self.runtimes.rescan()


@pytest.fixture
async def library() -> AsyncIterator[OllamaLibrary]:
    async with OllamaLibrary("theirs:latest") as library:
        yield library


@asynccontextmanager
async def started(
    config: NodeConfig, session: aiohttp.ClientSession, journal: Journal, runtimes: list[str], *origins: str
) -> AsyncIterator[Node]:
    config = msgspec.structs.replace(config, runtime=runtimes, model_origins=list(origins), memory=1 << 30)
    node = Node(config, session, journal.log)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(node.runtimes.stop)
        await node.runtimes.start()
        node.client = await stack.enter_async_context(running(node.routes))
        yield node


@pytest.fixture
async def node(
    config: NodeConfig, session: aiohttp.ClientSession, journal: Journal, library: OllamaLibrary
) -> AsyncIterator[Node]:
    async with started(config, session, journal, ["llamacpp", f"ollama={library.url}"]) as node:
        yield node


# -- with an Ollama


async def test_lists(node: Node, library: OllamaLibrary) -> None:
    """What both runtimes have, and what is in memory of both, with what each says of it."""
    library.loaded = ["theirs:latest"]
    models = {model["name"]: model for model in (await node.client.call("GET", "/api/tags")).json()["models"]}
    assert sorted(models) == [NAME, "theirs:latest"]
    assert models["theirs:latest"]["modified_at"] == MODIFIED
    assert models["theirs:latest"]["details"] == DETAILS
    assert models[NAME]["size"] == len(model_bytes())
    assert models[NAME]["details"]["family"] == "llama"
    loaded = {model["name"]: model for model in (await node.client.call("GET", "/api/ps")).json()["models"]}
    assert sorted(loaded) == [NAME, "theirs:latest"]
    assert loaded["theirs:latest"]["size_vram"] == 7


async def test_pull(node: Node, library: OllamaLibrary) -> None:
    """The Ollama fetches it; meanwhile the node reports how far it is, and lists it before it says that it is done."""
    library.held = asyncio.Event()
    async with node.client.talk("POST", "/api/pull", {"model": "tiny"}) as response:
        lines = [await response.content.readline() for _ in range(4)]
        assert FILE.encode() in lines[-1]
        (progress,) = node.pulls.progress()
        assert (progress.kind, progress.name, progress.done, progress.total) == ("model", "tiny", SIZE, SIZE)
        library.held.set()
        assert await response.content.readline() == b'{"status":"success"}\n'
        assert "tiny:latest" in node.registry
    assert node.pulls.progress() == []


async def test_pull_that_is_left(node: Node, library: OllamaLibrary) -> None:
    """Whoever asked goes away: the Ollama hears of it."""
    library.held = asyncio.Event()
    async with node.client.talk("POST", "/api/pull", {"model": "tiny"}) as response:
        await response.content.readline()
    async with asyncio.timeout(10):
        await library.left.wait()


async def test_changes(node: Node, library: OllamaLibrary) -> None:
    """Copy and delete go to where the model is; the list is right when they are answered."""
    body = {"source": "theirs", "destination": "second"}
    assert (await node.client.call("POST", "/api/copy", body)).status == 200
    assert "second:latest" in node.registry
    assert (await node.client.call("DELETE", "/api/delete", {"model": "theirs"})).status == 200
    assert "theirs:latest" not in node.registry
    assert library.models == ["second:latest"]
    assert node.files() == [f"{NAME}.gguf"]


async def test_create_and_push(node: Node, library: OllamaLibrary) -> None:
    """Its blobs pass to the Ollama as they come, which then makes the model, and can push it."""
    content = b"x" * 300_000
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"

    async def blocks() -> AsyncGenerator[bytes, None]:
        yield content[:100_000]
        yield content[100_000:]

    assert (await node.client.call("HEAD", f"/api/blobs/{digest}")).status == 404
    assert (await node.client.call("POST", f"/api/blobs/{digest}", blocks())).status == 201
    assert (await node.client.call("HEAD", f"/api/blobs/{digest}")).status == 200
    made = await node.client.call("POST", "/api/create", {"model": "mine", "files": {"a.gguf": digest}})
    assert made.records()[-1] == {"status": "success"}
    assert "mine:latest" in node.registry
    pushed = await node.client.call("POST", "/api/push", {"model": "mine", "stream": False})
    assert pushed.json() == {"status": "success"}
    assert library.asked("/api/push") == [{"model": "mine:latest", "stream": True}]


async def test_unload(node: Node, library: OllamaLibrary) -> None:
    """Either runtime's models leave the memory; the answer is Ollama's."""
    library.loaded = ["theirs:latest"]
    answer = await node.client.call("POST", "/api/generate", {"model": "theirs", "keep_alive": 0})
    assert (answer.json()["response"], answer.json()["done_reason"]) == ("", "unload")
    assert library.loaded == []
    answer = await node.client.call("POST", "/api/chat", {"model": NAME, "keep_alive": "0s", "messages": []})
    assert answer.json()["message"] == {"role": "assistant", "content": ""}
    await node.without(NAME)
    assert (await node.client.call("POST", "/api/generate", {"model": "nope", "keep_alive": 0})).status == 404


async def test_show(node: Node, library: OllamaLibrary) -> None:
    """What an Ollama says of its model passes as it is; of llama.cpp's, what its file says."""
    library.refuses["/api/show"] = 418
    assert (await node.client.call("POST", "/api/show", {"model": "theirs"})).status == 418
    said = (await node.client.call("POST", "/api/show", {"name": NAME, "verbose": True})).json()
    assert said["details"]["family"] == "llama"
    assert said["details"]["format"] == "gguf"
    assert said["capabilities"] == ["completion"]
    assert (await node.client.call("POST", "/api/show", {"model": "nope"})).status == 404


# -- of the store


async def test_store(node: Node) -> None:
    """A model of llama.cpp's is copied and deleted in the store, and listed accordingly."""
    body = {"source": NAME, "destination": "other:1b"}
    assert (await node.client.call("POST", "/api/copy", body)).status == 200
    assert node.files() == [f"{NAME}.gguf", "other=1b.gguf"]
    assert (await node.client.call("DELETE", "/api/delete", {"model": "other:1b"})).status == 200
    assert node.files() == [f"{NAME}.gguf"]


async def test_what_llamacpp_cannot(config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> None:
    """Without an Ollama: an error that says that one is needed."""
    async with started(config, session, journal, ["llamacpp"]) as node:
        for path, body, status in (
            ("/api/pull", {"model": "tiny"}, 503),
            ("/api/create", {"model": "mine", "from": NAME}, 503),
            ("/api/push", {"model": NAME}, 400),
            (f"/api/blobs/sha256:{'a' * 64}", b"x", 503),
        ):
            answer = await node.client.call("POST", path, body)
            assert answer.status == status, (path, answer)
            assert "Ollama" in answer.json()["error"]
        stored = await node.client.call("POST", "/api/pull", {"model": NAME, "stream": False})
        assert stored.json() == {"status": "success"}


async def test_catalogue(config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> None:
    """A model that the router offers is fetched by the node, in the words of `ollama pull`, and is stored then."""
    content = model_bytes()
    async with (
        file_server(content) as url,
        started(config, session, journal, ["llamacpp"], "http://127.0.0.1:*") as node,
    ):
        await node.offer("mine", url, content)
        answer = await node.client.call("POST", "/api/pull", {"model": "mine"})
        records = answer.records()
        assert records[-1] == {"status": "success"}, records
        assert records[0] == {"status": "pulling manifest"}
        assert records[-2]["completed"] == records[-2]["total"] == len(content)
        assert len(records[-2]["digest"]) == len(FILE)
        assert "mine.gguf" in node.files()
        assert (await node.client.call("DELETE", "/api/delete", {"model": "mine"})).status == 200
        assert (await node.client.call("DELETE", "/api/delete", {"model": "mine"})).status == 404


async def test_catalogue_that_cannot_be_had(
    config: NodeConfig, session: aiohttp.ClientSession, journal: Journal
) -> None:
    """The last record says why."""
    async with started(config, session, journal, ["llamacpp"]) as node:
        await node.offer("mine", "http://127.0.0.1:9/mine.gguf", model_bytes())
        answer = await node.client.call("POST", "/api/pull", {"model": "mine"})
        assert "mine" in answer.records()[-1]["error"]
        assert node.files() == [f"{NAME}.gguf"]


# -- names


@pytest.mark.parametrize("name", TRICKS)
async def test_names(node: Node, library: OllamaLibrary, name: str) -> None:
    """What is no name of a model is refused; neither the store nor the Ollama is touched (requirement H7)."""
    before = len(library.seen)
    for method, path, body in (
        ("POST", "/api/pull", {"model": name}),
        ("POST", "/api/push", {"model": name}),
        ("POST", "/api/create", {"model": name, "from": "theirs"}),
        ("POST", "/api/copy", {"source": NAME, "destination": name}),
        ("POST", "/api/copy", {"source": name, "destination": "x"}),
        ("DELETE", "/api/delete", {"name": name}),
        ("POST", "/api/show", {"model": name}),
        ("POST", "/api/generate", {"model": name, "keep_alive": 0}),
    ):
        answer = await node.client.call(method, path, body)
        assert (answer.status, list(answer.json())) == (400, ["error"]), (path, answer)
    assert [path for _, path, _ in library.seen[before:] if path not in ("/api/tags", "/api/ps")] == []
    assert node.files() == [f"{NAME}.gguf"]


@asynccontextmanager
async def file_server(content: bytes) -> AsyncIterator[str]:
    """The URL of a file."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=content)

    app = web.Application()
    app.router.add_get("/mine.gguf", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/mine.gguf"
    finally:
        await runner.cleanup()
