"""What nodes fetch of a running router: offers, manifests, files (requirement H6)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import msgspec
import pytest
from tests.doubles.hub import Hub, Options
from tests.models import ggufs
from tests.router.api.test_nodes import call, code, register
from tests.router.fake_node import FakeNode
from yarl import URL

from llm_router.config import RouterConfig
from llm_router.contract import Heartbeat, Registered, Seen
from llm_router.models.manifest import NODE_ID, REGISTRY, Manifest, Offer
from llm_router.models.tickets import check
from llm_router.router.api.registry import readings
from llm_router.router.app import serving

REPO = "org/big"
FILE = "big.gguf"
PATH = f"{REGISTRY}/team/big/files/{FILE}"
CONTENT = ggufs.header(ggufs.LLAMA, {"w": (1024, 512)}) + bytes(range(256)) * (1024 * 512 * 4 // 256)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with Hub(tmp_path / "hub") as running:
        running.put(REPO, {FILE: CONTENT})
        yield running


@pytest.fixture
def config(config: RouterConfig, hub: Hub) -> RouterConfig:
    return msgspec.structs.replace(config, hf_endpoint=hub.url, model_origins=hub.origins)


@pytest.fixture
async def api(config: RouterConfig) -> AsyncIterator[aiohttp.ClientSession]:
    """A running router with one model in its catalogue, as a client of this machine."""
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        await add(client, "team/big")
        yield client


async def add(api: aiohttp.ClientSession, name: str, **more: object) -> None:
    status, answer = await call(api, "POST", "/v0/models", {"repo": REPO, "name": name, **more})
    assert status == 201, answer


async def joined(api: aiohttp.ClientSession, node: FakeNode, node_id: str = "n1", access: str = "") -> dict[str, str]:
    """The headers by which this node shows who it is."""
    message = msgspec.structs.replace(node.registration(node_id), access=access)
    _, answer = await call(api, "POST", "/v0/nodes", message)
    secret = msgspec.convert(answer, Registered).node_secret
    return {"authorization": f"Bearer {secret}", NODE_ID: node_id}


async def manifest(api: aiohttp.ClientSession, headers: dict[str, str] | None = None) -> Manifest:
    async with api.get(f"{REGISTRY}/team/big/manifest.json", headers=headers) as response:
        assert response.status == 200
        return msgspec.json.decode(await response.read(), type=Manifest)


async def requests(hub: Hub) -> int:
    """How often the file was asked for, besides the look at its beginning when it was registered."""
    counts = await hub.counts()
    return counts[f"{REPO}/{FILE}"].requests - 1


async def refusal(api: aiohttp.ClientSession, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    async with api.get(URL(path, encoded=True), headers=headers) as response:
        return code((response.status, msgspec.json.decode(await response.read())))


async def test_the_manifest(api: aiohttp.ClientSession, hub: Hub) -> None:
    """Format, files with name, size and checksum, what can run it, where it comes from."""
    found = await manifest(api)
    assert (found.model, found.format) == ("team/big", "gguf")
    assert "llamacpp" in found.runtimes
    (file,) = found.files
    assert (file.name, file.size, len(file.sha256), file.peers) == (FILE, len(CONTENT), 64, [])
    assert file.url.startswith(f"{hub.url}/{REPO}/resolve/")


async def test_a_file_comes_through_the_router(api: aiohttp.ClientSession, hub: Hub) -> None:
    """Whole, in parts, and not again for who has it; ten who ask at once are one download."""
    sha256 = (await manifest(api)).files[0].sha256

    async def get(**headers: str) -> tuple[int, bytes, str]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with api.get(PATH, headers=sent) as response:
            assert response.headers["etag"] == f'"{sha256}"'
            return response.status, await response.read(), response.headers.get("content-range", "")

    assert await asyncio.gather(*(get() for _ in range(10))) == [(200, CONTENT, "")] * 10
    part = (206, CONTENT[5000:70_001], f"bytes 5000-70000/{len(CONTENT)}")
    assert await get(range="bytes=5000-70000") == part
    assert await get(range="bytes=5000-70000", if_range=f'"{sha256}"') == part
    assert await get(range="bytes=5000-70000", if_range='"other"') == (200, CONTENT, "")
    assert await get(range="bytes=-1") == (
        206,
        CONTENT[-1:],
        f"bytes {len(CONTENT) - 1}-{len(CONTENT) - 1}/{len(CONTENT)}",
    )
    assert await get(range=f"bytes={len(CONTENT)}-") == (416, b"", f"bytes */{len(CONTENT)}")
    assert await get(if_none_match=f'"{sha256}"') == (304, b"", "")
    assert await requests(hub) == 1


async def test_a_look_fetches_nothing(api: aiohttp.ClientSession, hub: Hub) -> None:
    """HEAD says how long it is and which version."""
    for path in (PATH, "/v1/models/blob/team/big"):
        async with api.head(path) as response:
            assert response.status == 200
            assert response.headers["content-length"] == str(len(CONTENT))
            assert response.headers["accept-ranges"] == "bytes"
    assert await requests(hub) == 0


async def test_the_first_bytes_come_before_the_last_are_there(api: aiohttp.ClientSession, hub: Hub) -> None:
    """The router hands on what it has."""
    await hub.set(Options(hold=64 * 16 * 1024, rate=4_000_000))
    async with api.get(PATH) as response:
        assert await response.content.readexactly(1000) == CONTENT[:1000]
        await hub.held()
        await hub.release()
        assert await response.read() == CONTENT[1000:]


async def test_a_wrong_file_ends_before_its_end(api: aiohttp.ClientSession, hub: Hub) -> None:
    """Nobody takes it for whole; who asks again is told why (requirement H8)."""
    await hub.set(Options(wrong_sha256=True))
    await add(api, "wrong")
    path = f"{REGISTRY}/wrong/files/{FILE}"
    await hub.set(Options(rate=20_000_000))
    async with api.get(path) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert await refusal(api, path) == (404, "not_found")


async def test_one_file_as_a_blob(api: aiohttp.ClientSession, hub: Hub) -> None:
    """The same bytes, with Range; a model of several files is to be fetched file by file, and the error says where."""
    async with api.get("/v1/models/blob/team/big", headers={"range": "bytes=7-9"}) as response:
        assert (response.status, await response.read()) == (206, CONTENT[7:10])
    config = msgspec.json.encode({"architectures": ["LlamaForCausalLM"]})
    hub.put("org/st", {"config.json": config, "tokenizer.json": b"{}", "model.safetensors": bytes(8) + b"{}"})
    status, answer = await call(api, "POST", "/v0/models", {"repo": "org/st", "name": "st"})
    assert status == 201, answer
    async with api.get("/v1/models/blob/st") as response:
        assert response.status == 400
        assert f"{REGISTRY}/st/files/" in await response.text()


async def test_only_nodes_and_admins(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """A node with its secret; nobody with a wrong one, a node that nobody knows, or a key for questions."""
    mine = await joined(api, node)
    _, key = await call(api, "POST", "/v0/keys", {"name": "ci", "scope": "inference"})
    for path in (PATH, f"{REGISTRY}/team/big/manifest.json", "/v1/models/blob/team/big", "/v0/nodes/n1/models"):
        async with api.get(path, headers=mine) as response:
            assert response.status == 200, path
        assert await refusal(api, path, mine | {"authorization": "Bearer guessed"}) == (401, "invalid_api_key")
        assert await refusal(api, path, mine | {NODE_ID: "n2"}) == (401, "invalid_api_key")
        assert await refusal(api, path, {NODE_ID: "n1"}) == (401, "invalid_api_key")
        assert await refusal(api, path, {"x-api-key": key["key"]}) == (403, "forbidden")
    assert await refusal(api, "/v0/nodes/other/models", mine) == (403, "forbidden")
    assert await refusal(api, "/v0/nodes/other/models") == (404, "node_not_found")


async def test_who_waits_for_approval_gets_nothing(config: RouterConfig, node: FakeNode) -> None:
    """It has a secret, which proves nothing but that it is the same as before (requirement A10)."""
    strangers = msgspec.structs.replace(config, trust=["127.0.0.9"])
    async with serving(strangers) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        _, answer = await register(api, node)
        headers = {"authorization": f"Bearer {answer['node_secret']}", NODE_ID: "n1"}
        assert await refusal(api, "/v0/nodes/n1/models", headers) == (403, "forbidden")
        assert (await refusal(api, "/v0/nodes/n1/models"))[0] == 401


async def test_what_is_offered(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Every model of the catalogue; the heartbeat's answer has another number when that changes."""
    headers = await joined(api, node)

    async def offers() -> dict[str, Offer]:
        async with api.get("/v0/nodes/n1/models", headers=headers) as response:
            found = msgspec.json.decode(await response.read(), type=list[Offer])
        return {offer.manifest.model: offer for offer in found}

    async def number() -> int:
        secret = headers["authorization"].removeprefix("Bearer ")
        _, answer = await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(), secret)
        return msgspec.convert(answer, Seen).catalogue

    (offer,) = (await offers()).values()
    assert (offer.manifest.model, offer.wanted, offer.preload) == ("team/big", False, False)
    numbers = [await number(), await number()]
    await add(api, "second")
    numbers.append(await number())
    placement = {"placement": {"pinned": ["n1"], "preload": True}}
    assert (await call(api, "PATCH", "/v0/models/second", placement))[0] == 200
    numbers.append(await number())
    assert ((await offers())["second"].wanted, (await offers())["second"].preload) == (True, True)
    assert numbers[0] == numbers[1] != 0
    assert len(set(numbers)) == 3


async def test_a_node_is_told_who_else_has_it(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """With a ticket that this one can check; nobody else is told."""
    node.models = ["team/big"]
    await joined(api, node, "n1", access="n1s-access")
    asks = await joined(api, node, "n2", access="n2s-access")
    (peer,) = (await manifest(api, asks)).files[0].peers
    parts = urlsplit(peer)
    assert (parts.netloc, parts.path) == (f"127.0.0.1:{node.port}", "/v0/files/team%2Fbig/model.gguf")
    ticket = check("n1s-access", parts.path, dict(parse_qsl(parts.query)), 0.0)
    assert ticket.size == len(CONTENT)
    assert (await manifest(api)).files[0].peers == []


TRICKS = [
    "%2e%2e",
    "%2e%2e/%2e%2e/etc/passwd",
    "/etc/passwd",
    "a/%2e%2e/%2e%2e/b",
    ".hidden",
    "con",
    "A",
    "a%00b",
    "a%5c..%5cb",
]


@pytest.mark.parametrize("trick", TRICKS)
async def test_a_trick_is_no_name(api: aiohttp.ClientSession, trick: str) -> None:
    """Requirement H7: 400 as a model's name; as a file's, at most that it is not there."""
    for path in (f"{REGISTRY}/{trick}/manifest.json", f"{REGISTRY}/{trick}/files/f", f"/v1/models/blob/{trick}"):
        assert await refusal(api, path) == (400, "invalid_request"), path
    assert (await refusal(api, f"{REGISTRY}/team/big/files/{trick}"))[0] in (400, 404)


async def test_what_is_not_there(api: aiohttp.ClientSession) -> None:
    """404, and which of the two it is."""
    assert await refusal(api, f"{REGISTRY}/gone/manifest.json") == (404, "model_not_found")
    assert await refusal(api, f"{REGISTRY}/gone/files/x") == (404, "model_not_found")
    assert await refusal(api, f"{REGISTRY}/team/big/files/gone.gguf") == (404, "not_found")
    assert await refusal(api, "/v1/models/blob/gone") == (404, "model_not_found")


def test_a_path_can_be_read_in_several_ways() -> None:
    """Names of models and files have slashes: the catalogue says which of these is meant."""
    assert list(readings("a/files/b/files/manifest.json")) == [
        ("a/files/b/files", ""),
        ("a", "b/files/manifest.json"),
        ("a/files/b", "manifest.json"),
    ]
    assert list(readings("a/b")) == []
