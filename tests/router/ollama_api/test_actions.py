"""Ollama's model endpoints on a router with several nodes (issue: models arrive by themselves, point 5)."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator

import pytest
from tests.doubles.control import Client
from tests.doubles.ollama_library import DETAILS, EXPIRES, FILE, MODIFIED, SIZE
from tests.router.ollama_api.conftest import Fleet

from llm_router.contract import ModelEntry

BLOCK = b"x" * 65_536
PARAMETERS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("POST", "/api/pull", {"model": "{}"}),
    ("POST", "/api/push", {"model": "{}"}),
    ("POST", "/api/create", {"model": "{}", "from": "a"}),
    ("POST", "/api/create", {"model": "a", "from": "{}"}),
    ("POST", "/api/copy", {"source": "{}", "destination": "a"}),
    ("POST", "/api/copy", {"source": "a", "destination": "{}"}),
    ("DELETE", "/api/delete", {"model": "{}"}),
    ("DELETE", "/api/delete", {"name": "{}"}),
    ("POST", "/api/generate", {"model": "{}", "keep_alive": 0}),
    ("POST", "/api/chat", {"model": "{}", "keep_alive": 0}),
)
TRICKS = [
    "..",
    "../x",
    "a/../b",
    "/etc/passwd",
    "a\x00b",
    "%2e%2e/x",
    "c:\\x",
    "con",
    "a/nul.txt",
    "com1:x",
    "",
    "a//b",
]


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


# -- pull


async def test_pull(fleet: Fleet, client: Client) -> None:
    """The best node fetches it; what it says passes as it comes, and when it is done the router lists the model."""
    small = await fleet.node("small")
    large = await fleet.node("large", memory=1 << 30)
    answer = await client.call("POST", "/api/pull", {"model": "tiny", "insecure": True})
    assert answer.status == 200
    assert answer.kind == "application/x-ndjson"
    assert [record["status"] for record in answer.records()][0::4] == ["pulling manifest", "success"]
    assert large.asked("/api/pull") == [{"model": "tiny", "insecure": True, "stream": True}]
    assert not small.asked("/api/pull")
    assert fleet.listed("large") == ("tiny:latest",)


async def test_pull_comes_as_it_comes(fleet: Fleet, client: Client) -> None:
    """A client sees the percentage while the model is fetched; when it leaves, the node hears of it."""
    node = await fleet.node("a")
    node.held = asyncio.Event()
    async with client.talk("POST", "/api/pull", {"model": "tiny"}) as response:
        lines = [await response.content.readline() for _ in range(4)]
        assert b'"completed":1000' in lines[-1]
    async with asyncio.timeout(10):
        await node.left.wait()


async def test_pull_whole(fleet: Fleet, client: Client) -> None:
    """Without a stream, the last word alone; one that fails is 500, as Ollama has it."""
    node = await fleet.node("a")
    node.unknown.add("nope")
    assert (await client.call("POST", "/api/pull", {"model": "tiny", "stream": False})).json() == {"status": "success"}
    failed = await client.call("POST", "/api/pull", {"model": "nope", "stream": False})
    assert failed.status == 500
    assert failed.json() == {"error": "pull model manifest: file does not exist"}


async def test_pull_fails_in_its_stream(fleet: Fleet, client: Client) -> None:
    """As with one Ollama: status 200, and the error as the last record."""
    node = await fleet.node("a")
    node.unknown.add("nope")
    answer = await client.call("POST", "/api/pull", {"model": "nope"})
    assert answer.status == 200
    assert answer.records()[-1] == {"error": "pull model manifest: file does not exist"}


async def test_pull_to_a_node(fleet: Fleet, client: Client) -> None:
    """`?node=` names it, by name or by id."""
    await fleet.node("large", memory=1 << 30)
    small = await fleet.node("small")
    for node in ("small", "id-small"):
        assert (await client.call("POST", "/api/pull", {"model": "tiny"}, node=node)).status == 200
    assert len(small.asked("/api/pull")) == 2


async def test_pull_again(fleet: Fleet, client: Client) -> None:
    """Who has it already looks whether there is something new of it; no second node gets it."""
    await fleet.node("large", memory=1 << 30)
    small = await fleet.node("small", "tiny:latest")
    assert (await client.call("POST", "/api/pull", {"model": "tiny"})).status == 200
    assert len(small.asked("/api/pull")) == 1


async def test_pull_of_the_catalogue(fleet: Fleet, client: Client) -> None:
    """A model that nodes list because the catalogue offers it is fetched by one of those, with an Ollama or not."""
    await fleet.node("large", memory=1 << 30)
    small = await fleet.node("small", ollama=False)
    fleet.registry.list_models("id-small", ["mine"], 0.0, [ModelEntry("mine", stored=False)])
    assert (await client.call("POST", "/api/pull", {"model": "mine"})).status == 200
    assert len(small.asked("/api/pull")) == 1


async def test_pull_by_all(fleet: Fleet, of_all: Client) -> None:
    """With the setting, all that can fetch it; their progress is one, and success is said when all have it."""
    first, second = await fleet.node("a"), await fleet.node("b")
    await fleet.node("c", ollama=False)
    second.held = asyncio.Event()
    async with of_all.talk("POST", "/api/pull", {"model": "tiny"}) as response:
        async with asyncio.timeout(10):
            await second.waits.wait()
        second.held.set()
        lines = (await response.read()).decode().splitlines()
    assert fleet.listed("a") == fleet.listed("b") == ("tiny:latest",)
    assert fleet.listed("c") == ()
    assert len(first.asked("/api/pull")) == len(second.asked("/api/pull")) == 1
    assert lines[-1] == '{"status":"success"}'
    assert f'"digest":"{FILE}","total":{2 * SIZE},"completed":{2 * SIZE}' in lines[-2]


async def test_pull_by_all_but_one(fleet: Fleet, of_all: Client) -> None:
    """Where one cannot, the others do, and the last record names the one."""
    await fleet.node("a")
    broken = await fleet.node("b")
    broken.unknown.add("tiny")
    answer = await of_all.call("POST", "/api/pull", {"model": "tiny"})
    assert answer.records()[-1] == {"error": "b: pull model manifest: file does not exist"}
    assert fleet.listed("a") == ("tiny:latest",)


async def test_nobody_can_pull(fleet: Fleet, client: Client) -> None:
    """It says what is missing."""
    await fleet.node("a", ollama=False)
    answer = await client.call("POST", "/api/pull", {"model": "tiny"})
    assert answer.status == 503
    assert "Ollama" in answer.json()["error"]


async def test_named_wrongly(fleet: Fleet, client: Client) -> None:
    """No node of that name: 404; two of it: 400."""
    await fleet.node("a")
    assert (await client.call("POST", "/api/pull", {"model": "tiny"}, node="b")).status == 404
    await fleet.node("c")
    fleet.registry.nodes["id-c"].name = "a"
    answer = await client.call("POST", "/api/pull", {"model": "tiny"}, node="a")
    assert answer.status == 400
    assert "id-a" in answer.json()["error"]


async def test_node_without_the_endpoint(fleet: Fleet, client: Client) -> None:
    """An error of the node's keeps its status; one that does not let us in is our trouble, not the client's."""
    node = await fleet.node("a")
    node.refuses["/api/pull"] = 418
    answer = await client.call("POST", "/api/pull", {"model": "tiny"})
    assert (answer.status, answer.json()) == (418, {"error": "told to fail"})
    node.token += "-another"
    assert (await client.call("POST", "/api/pull", {"model": "tiny"})).status == 502


# -- delete, copy, push


async def test_delete(fleet: Fleet, client: Client) -> None:
    """It goes from every node that has it, and from the router's list; a missing tag is `latest`."""
    first, second = await fleet.node("a", "x:latest", "y:latest"), await fleet.node("b", "x:latest")
    third = await fleet.node("c", "y:latest")
    answer = await client.call("DELETE", "/api/delete", {"name": "x"})
    assert (answer.status, answer.body) == (200, b"")
    assert (first.models, second.models, third.models) == (["y:latest"], [], ["y:latest"])
    assert "x:latest" not in fleet.registry
    assert not third.asked("/api/delete")


async def test_delete_on_one(fleet: Fleet, client: Client) -> None:
    """`?node=`: on that one alone."""
    first, second = await fleet.node("a", "x:latest"), await fleet.node("b", "x:latest")
    assert (await client.call("DELETE", "/api/delete", {"model": "x"}, node="b")).status == 200
    assert (first.models, second.models) == (["x:latest"], [])


async def test_delete_of_nothing(fleet: Fleet, client: Client) -> None:
    """404 in Ollama's words; a model that is only offered by the catalogue is not there either."""
    await fleet.node("a")
    fleet.registry.list_models("id-a", ["mine"], 0.0, [ModelEntry("mine", stored=False)])
    for model in ("nope", "mine"):
        answer = await client.call("DELETE", "/api/delete", {"model": model})
        assert (answer.status, answer.json()) == (404, {"error": f"model '{model}' not found"})


async def test_delete_that_one_refuses(fleet: Fleet, client: Client) -> None:
    """The others do it, and the answer names the one."""
    await fleet.node("a", "x:latest")
    stubborn = await fleet.node("b", "x:latest")
    stubborn.refuses["/api/delete"] = 500
    answer = await client.call("DELETE", "/api/delete", {"model": "x"})
    assert (answer.status, answer.json()) == (500, {"error": "b: told to fail"})
    assert fleet.listed("a") == ()


async def test_delete_where_it_is_gone(fleet: Fleet, client: Client) -> None:
    """A node that has lost it since it listed it has nothing to do; if all have, it is not found."""
    await fleet.node("a", "x:latest")
    other = await fleet.node("b", "x:latest")
    other.models.clear()
    assert (await client.call("DELETE", "/api/delete", {"model": "x"})).status == 200
    await fleet.node("c", "x:latest")
    (await fleet.node("d", "z:latest")).models.clear()
    assert (await client.call("DELETE", "/api/delete", {"model": "z"})).status == 404


async def test_copy(fleet: Fleet, client: Client) -> None:
    """On every node that has the source."""
    first, second = await fleet.node("a", "x:latest"), await fleet.node("b", "x:latest")
    third = await fleet.node("c")
    answer = await client.call("POST", "/api/copy", {"source": "x", "destination": "y"})
    assert (answer.status, answer.body) == (200, b"")
    assert first.models == second.models == ["x:latest", "y:latest"]
    assert third.models == []
    assert (await client.call("POST", "/api/copy", {"source": "nope", "destination": "y"})).status == 404


async def test_push(fleet: Fleet, client: Client) -> None:
    """By a node that has it in an Ollama; without one it says so."""
    first, _ = await fleet.node("a", "x:latest"), await fleet.node("b", "y", ollama=False)
    assert (await client.call("POST", "/api/push", {"model": "x"})).records()[-1] == {"status": "success"}
    assert first.asked("/api/push") == [{"model": "x:latest", "stream": True}]
    refused = await client.call("POST", "/api/push", {"model": "y"})
    assert refused.status == 400
    assert "Ollama" in refused.json()["error"]
    assert (await client.call("POST", "/api/push", {"model": "z"})).status == 404


# -- create and blobs


async def test_create(fleet: Fleet, client: Client) -> None:
    """Its blobs go to one node, which is asked to make the model of them; then the router lists it."""
    contents = [b"one", b"two"]
    first, second = await fleet.node("a"), await fleet.node("b")
    for content in contents:
        digest = digest_of(content)
        assert (await client.call("HEAD", f"/api/blobs/{digest}")).status == 404
        assert (await client.call("POST", f"/api/blobs/{digest}", content)).status == 201
        assert (await client.call("HEAD", f"/api/blobs/{digest}")).status == 200
    assert (len(first.blobs), len(second.blobs)) == (2, 0)
    body = {"model": "mine", "files": {"a.gguf": digest_of(b"one")}, "adapters": {"b.gguf": digest_of(b"two")}}
    assert (await client.call("POST", "/api/create", body)).records()[-1] == {"status": "success"}
    assert fleet.listed("a") == ("mine:latest",)


async def test_blobs_on_two_nodes(fleet: Fleet, client: Client) -> None:
    """Blobs that lie on different nodes cannot make one model: the client is told to send the second one again."""
    one, two = digest_of(b"one"), digest_of(b"two")
    first, second = await fleet.node("a"), await fleet.node("b")
    first.blobs[one] = second.blobs[two] = 3
    assert (await client.call("HEAD", f"/api/blobs/{one}")).status == 200
    assert (await client.call("HEAD", f"/api/blobs/{two}")).status == 404
    assert (await client.call("HEAD", f"/api/blobs/{two}", client="10.0.0.2")).status == 200
    assert (await client.call("POST", f"/api/blobs/{two}", b"two")).status == 201
    body = {"model": "mine", "files": {"a.gguf": one, "b.gguf": two}, "stream": False}
    assert (await client.call("POST", "/api/create", body)).json() == {"status": "success"}
    assert fleet.listed("a") == ("mine:latest",)


async def test_create_without_its_blobs(fleet: Fleet, client: Client) -> None:
    """An error that says what to do; no node is asked."""
    node = await fleet.node("a")
    answer = await client.call("POST", "/api/create", {"model": "mine", "files": {"a.gguf": digest_of(b"one")}})
    assert answer.status == 400
    assert "/api/blobs/" in answer.json()["error"]
    assert not node.asked("/api/create")


async def test_create_from(fleet: Fleet, client: Client) -> None:
    """Where the base is."""
    await fleet.node("a", memory=1 << 30)
    second = await fleet.node("b", "base:latest")
    assert (await client.call("POST", "/api/create", {"model": "mine", "from": "base"})).status == 200
    assert len(second.asked("/api/create")) == 1


async def test_large_blob(fleet: Fleet, client: Client) -> None:
    """It passes as it comes: the node has its beginning before the client has sent its end."""
    node = await fleet.node("a")
    count = 400
    digest = digest_of(BLOCK * count)

    async def blocks() -> AsyncGenerator[bytes, None]:
        for _ in range(count):
            yield BLOCK

    assert (await client.call("POST", f"/api/blobs/{digest}", blocks())).status == 201
    assert node.blobs[digest] == len(BLOCK) * count
    assert node.most < len(BLOCK) * count / 4


async def test_blob_that_is_another(fleet: Fleet, client: Client) -> None:
    """The node's refusal is passed on; a digest that is none is not asked about."""
    await fleet.node("a")
    answer = await client.call("POST", f"/api/blobs/{digest_of(b'one')}", b"two")
    assert answer.status == 400
    assert "digest mismatch" in answer.json()["error"]
    for digest in ("x", "sha256:..", f"sha512:{'a' * 64}", f"sha256:{'a' * 64}%2f..", "..%2f..%2fetc"):
        assert (await client.call("HEAD", f"/api/blobs/{digest}")).status in (400, 404)
        assert (await client.call("POST", f"/api/blobs/{digest}", b"x")).status in (400, 404)


# -- lists


async def test_tags(fleet: Fleet, client: Client) -> None:
    """Every model once, with what an Ollama says of it; of what nobody says anything, a digest that can be shown."""
    await fleet.node("a", "x:latest", kind="ollama")
    await fleet.node("b", "x:latest", "bare", ollama=False)
    models = {model["name"]: model for model in (await client.call("GET", "/api/tags")).json()["models"]}
    assert sorted(models) == ["bare", "x:latest"]
    assert models["x:latest"] == {
        "name": "x:latest",
        "model": "x:latest",
        "modified_at": MODIFIED,
        "size": SIZE,
        "digest": hashlib.sha256(b"x:latest").hexdigest(),
        "details": DETAILS,
    }
    assert len(models["bare"]["digest"]) == 64


async def test_tags_newest_first(fleet: Fleet, client: Client) -> None:
    """As Ollama sorts them; of two of one name, the newest."""
    await fleet.node("a")
    await fleet.node("b")
    old = ModelEntry("old", modified="2025-01-01T00:00:00Z")
    one = ModelEntry("x", size=1, modified="2026-01-01T01:00:00+02:00")
    two = ModelEntry("x", size=2, modified="2026-01-01T00:00:00.5Z")
    fleet.registry.list_models("id-a", ["old", "x"], 0.0, [old, one])
    fleet.registry.list_models("id-b", ["x"], 0.0, [two])
    models = (await client.call("GET", "/api/tags")).json()["models"]
    assert [(model["name"], model["size"]) for model in models] == [("x", 2), ("old", 0)]


async def test_ps(fleet: Fleet, client: Client) -> None:
    """What the nodes say that have models in memory, each once; the others are not asked."""
    first, second = await fleet.node("a", "x:latest", "y:latest"), await fleet.node("b", "x:latest")
    third = await fleet.node("c", "x:latest")
    first.loaded, second.loaded = ["x:latest", "y:latest"], ["x:latest"]
    fleet.loads("a", "x:latest")
    fleet.loads("b", "x:latest")
    models = (await client.call("GET", "/api/ps")).json()["models"]
    assert sorted(model["name"] for model in models) == ["x:latest", "y:latest"]
    assert (models[0]["expires_at"], models[0]["size_vram"], models[0]["context_length"]) == (EXPIRES, 7, 4096)
    assert models[0]["details"] == DETAILS
    assert not third.asked("/api/ps")


async def test_ps_of_who_is_silent(fleet: Fleet, client: Client) -> None:
    """Of a node that does not say, what it reported last."""
    node = await fleet.node("a", "x:latest")
    node.refuses["/api/ps"] = 500
    fleet.loads("a", "x:latest")
    assert [model["name"] for model in (await client.call("GET", "/api/ps")).json()["models"]] == ["x:latest"]


# -- unload


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_unload(fleet: Fleet, client: Client, path: str) -> None:
    """Every node that has it in memory lets it go; the answer is Ollama's."""
    first, second = await fleet.node("a", "x:latest"), await fleet.node("b", "x:latest")
    third = await fleet.node("c", "x:latest")
    first.loaded = second.loaded = ["x:latest"]
    fleet.loads("a", "x:latest")
    fleet.loads("b", "x:latest")
    answer = (await client.call("POST", path, {"model": "x", "keep_alive": 0})).json()
    assert (answer["model"], answer["done"], answer["done_reason"]) == ("x", True, "unload")
    said = answer["response"] if path == "/api/generate" else answer["message"]["content"]
    assert said == ""
    assert first.loaded == second.loaded == []
    assert not third.asked("/api/generate")


async def test_unload_of_nothing(fleet: Fleet, client: Client) -> None:
    """404 in Ollama's words; a model that is not in memory is none that could not be unloaded."""
    await fleet.node("a", "x:latest")
    answer = await client.call("POST", "/api/generate", {"model": "nope", "keep_alive": 0})
    assert (answer.status, answer.json()) == (404, {"error": "model 'nope' not found"})
    assert (await client.call("POST", "/api/generate", {"model": "x", "keep_alive": 0})).status == 200


# -- names


@pytest.mark.parametrize("name", TRICKS)
async def test_names(fleet: Fleet, client: Client, name: str) -> None:
    """What is no name of a model is refused in each place that takes one, and no node hears of it (requirement H7)."""
    node = await fleet.node("a", "a:latest")
    before = len(node.seen)
    for method, path, body in PARAMETERS:
        filled = {key: name if value == "{}" else value for key, value in body.items()}
        answer = await client.call(method, path, filled)
        if name or path != "/api/create" or body["from"] != "{}":  # an empty base is none
            assert answer.status == 400, (path, answer)
            assert isinstance(answer.json()["error"], str)
    assert [entry for entry in node.seen[before:] if entry[1] != "/v1/models" and name] == []


@pytest.mark.parametrize("file", ["/etc/passwd", "../x", "a/../x", "a\\x", "a\x00", ""])
async def test_names_of_files(fleet: Fleet, client: Client, file: str) -> None:
    """Those in `files` too."""
    await fleet.node("a")
    answer = await client.call("POST", "/api/create", {"model": "a", "files": {file: digest_of(b"x")}})
    assert answer.status == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":5}', b"\xff", b'{"model":"' + b"a" * 300 + b'"}'])
async def test_bodies(fleet: Fleet, client: Client, body: bytes) -> None:
    """What cannot be read is 400, with the reason."""
    await fleet.node("a")
    for method, path, _ in PARAMETERS:
        answer = await client.call(method, path, body)
        assert answer.status == 400, (path, answer)
