"""`/v0/models` of a running router, with a hub (requirements H3, H5, H6, H7)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.doubles.hub import Count, Hub, Options
from tests.models import ggufs

from llm_router.config import RouterConfig
from llm_router.router.app import serving

Json = Any  # whatever JSON holds
Ask = Callable[..., Awaitable[tuple[int, Json]]]

REPO = "org/Tiny-GGUF"
NAME = "tiny:q4_k_m"
TOKEN = "hf_secret"  # noqa: S105 - nobody's


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with Hub(tmp_path / "hub") as running:
        model = ggufs.write(tmp_path / "m.gguf", ggufs.LLAMA | {"tokenizer.chat_template": "{{ messages }}"})
        running.put(REPO, {"tiny-Q4_K_M.gguf": model.read_bytes(), "tiny-Q8_0.gguf": model.read_bytes() + bytes(32)})
        yield running


@pytest.fixture
def config(config: RouterConfig, hub: Hub) -> RouterConfig:
    return msgspec.structs.replace(config, hf_endpoint=hub.url, hf_token=TOKEN, model_origins=hub.origins)


@pytest.fixture
def ask(api: aiohttp.ClientSession) -> Ask:
    return asking(api)


def asking(api: aiohttp.ClientSession) -> Ask:
    async def ask(method: str, path: str, **body: object) -> tuple[int, Json]:
        data = msgspec.json.encode(body) if body or method in ("POST", "PATCH") else None
        async with api.request(method, path, data=data) as response:
            answer = await response.read()
            return response.status, msgspec.json.decode(answer) if answer else None

    return ask


async def test_registered_listed_shown_changed_removed(ask: Ask) -> None:
    """201 with what it is: file, size, checksum, memory, quantisation; then it is in the list until it is removed."""
    status, made = await ask("POST", "/v0/models", repo=REPO, file="tiny-Q4_K_M.gguf", display_name=" Tiny ")
    assert status == 201
    (file,) = made["files"]
    assert (made["name"], made["display_name"], made["format"]) == (NAME, "Tiny", "gguf")
    assert (file["name"], file["size"], len(file["sha256"])) == ("tiny-Q4_K_M.gguf", made["size"], 64)
    assert (made["architectures"], made["quantization"], made["context"]) == (["llama"], "Q4_K_M", 2048)
    assert made["memory"] > made["size"]
    assert made["chat_template"] is True
    assert made["placement"] == {"nodes": 1, "pinned": [], "preload": False}
    assert await ask("GET", "/v0/models") == (200, [made])
    assert await ask("GET", f"/v0/models/{NAME}") == (200, made)

    placement = {"nodes": 3, "pinned": ["n1"], "preload": True}
    status, changed = await ask("PATCH", f"/v0/models/{NAME}", placement=placement)
    assert (status, changed) == (200, made | {"placement": placement})
    assert (await ask("PATCH", f"/v0/models/{NAME}", display_name=""))[1]["display_name"] == NAME

    assert await ask("DELETE", f"/v0/models/{NAME}") == (204, None)
    assert await ask("GET", "/v0/models") == (200, [])
    for method in ("GET", "PATCH", "DELETE"):
        status, refused = await ask(method, f"/v0/models/{NAME}")
        assert (status, refused["error"]["code"]) == (404, "model_not_found")


async def test_a_policy_and_a_name(ask: Ask) -> None:
    """The quantisation is the policy's; the name is the one that was given, slashes included."""
    status, made = await ask("POST", "/v0/models", repo=REPO, policy="quality", name="team/best:1")
    assert (status, made["name"], made["quantization"]) == (201, "team/best:1", "Q8_0")
    assert (await ask("GET", "/v0/models/team/best:1"))[1] == made
    assert (await ask("GET", "/v0/models/team%2Fbest%3A1"))[1] == made


async def test_nothing_of_the_weights_is_fetched(ask: Ask, hub: Hub) -> None:
    """Registering takes a header: one request for bytes, of the chosen file only (H5)."""
    large = ggufs.header(ggufs.LLAMA, {"w": (1024, 1024)}) + bytes(4 << 20)
    hub.put("org/large", {"m.gguf": large})
    assert (await ask("POST", "/v0/models", repo="org/large"))[0] == 201
    assert await hub.counts() == {"org/large/m.gguf": Count(1, 256 * 1024)}


async def test_the_token_is_the_hubs_alone(ask: Ask, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    """The CDN, which answers 400 to it, does not see it; no answer and no log line has it."""
    await hub.set(Options(token=TOKEN))
    status, made = await ask("POST", "/v0/models", repo=REPO, policy="memory")
    assert status == 201
    await hub.set(Options(token="hf_other"))  # noqa: S106 - nobody's
    status, refused = await ask("POST", "/v0/models", repo=REPO, policy="memory", name="x")
    assert (status, "HF_TOKEN" in refused["error"]["message"]) == (400, True)
    _, events = await ask("GET", "/v0/events")
    shown = capsys.readouterr()
    assert TOKEN not in f"{made}{refused}{events}{shown.out}{shown.err}"


async def test_a_url(ask: Ask, hub: Hub) -> None:
    """A GGUF anywhere on the list: name and quantisation are its file's, of its query nothing is shown."""
    status, made = await ask("POST", "/v0/models", url=f"{hub.cdn}/{REPO}/tiny-Q8_0.gguf?key=abc")
    assert (status, made["name"], made["url"]) == (201, "tiny:q8_0", f"{hub.cdn}/{REPO}/tiny-Q8_0.gguf")
    assert made["files"] == [{"name": "tiny-Q8_0.gguf", "size": made["size"], "sha256": ""}]
    status, made = await ask("POST", "/v0/models", url=f"{hub.url}/{REPO}/blob/main/tiny-Q8_0.gguf", name="by-page")
    assert (status, len(made["files"][0]["sha256"])) == (201, 64)


async def test_a_url_of_parts(ask: Ask, hub: Hub, tmp_path: Path) -> None:
    """One part named is all of them, with the size of each."""
    part = ggufs.write(tmp_path / "p.gguf").read_bytes()
    hub.put("org/parts", {f"m-0000{n}-of-00002.gguf": part + bytes(n) for n in (1, 2)})
    status, made = await ask("POST", "/v0/models", url=f"{hub.cdn}/org/parts/m-00002-of-00002.gguf")
    assert (status, made["name"]) == (201, "m")
    assert [(f["name"], f["size"]) for f in made["files"]] == [
        ("m-00001-of-00002.gguf", len(part) + 1),
        ("m-00002-of-00002.gguf", len(part) + 2),
    ]


async def test_safetensors(ask: Ask, hub: Hub) -> None:
    """config.json, the tokenizer and the shards of the index, with their paths, and what the config tells (H5)."""
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 512, "torch_dtype": "float16"}
    hub.put(
        "org/Full",
        {
            "config.json": msgspec.json.encode(config),
            "tokenizer.json": b"{}",
            "tokenizer_config.json": b'{"chat_template": "x"}',
            "model.safetensors.index.json": b'{"weight_map": {"a": "model-00001-of-00001.safetensors"}}',
            "model-00001-of-00001.safetensors": bytes(1000),
            "pytorch_model.bin": bytes(1000),
        },
    )
    status, made = await ask("POST", "/v0/models", repo="org/Full")
    assert (status, made["name"], made["format"], made["quantization"]) == (201, "full", "safetensors", "F16")
    assert [file["name"] for file in made["files"]] == [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors.index.json",
        "model-00001-of-00001.safetensors",
    ]
    assert made["memory"] > made["size"] > 1000
    assert made["chat_template"] is True


UNFIT: list[tuple[dict[str, object], str]] = [
    ({}, "either `repo` or `url`"),
    ({"repo": REPO, "url": "https://x/y.gguf"}, "either `repo` or `url`"),
    ({"repo": REPO}, "tiny-Q4_K_M.gguf"),
    ({"repo": REPO, "file": "other.gguf"}, "tiny-Q8_0.gguf"),
    ({"repo": "org/nothing"}, "no repository org/nothing"),
    ({"repo": "nothing"}, "write org/name"),
    ({"repo": REPO, "policy": "cheapest"}, "policy"),
    ({"repo": REPO, "policy": "speed", "size": 3}, "size"),
    ({"repo": REPO, "policy": "speed", "placement": {"nodes": 0}}, "placement.nodes"),
    ({"repo": REPO, "policy": "speed", "placement": {"copies": 2}}, "copies"),
    ({"url": "https://huggingface.co.example/x.gguf"}, "huggingface.co.example"),
    ({"url": "file:///etc/passwd.gguf"}, "no URL that can be fetched"),
    ({"url": "https://user@huggingface.co/x.gguf"}, "no URL that can be fetched"),
    ({"url": "https://[x/y.gguf"}, "no URL that can be fetched"),
    ({"url": "https://[x]/y.gguf"}, "no URL that can be fetched"),
    ({"url": "https://host:abc/x.gguf"}, "what is no URL"),
    ({"url": "https://host/x.bin"}, "no GGUF file"),
]


async def test_what_cannot_be_registered(ask: Ask) -> None:
    """400, or 403 for an origin that is not on the list, with what to do; nothing is registered."""
    for body, said in UNFIT:
        status, refused = await ask("POST", "/v0/models", **body)
        assert status in (400, 403)
        assert said in refused["error"]["message"]
    assert (await ask("GET", "/v0/models"))[1] == []


NO_NAMES = ["../x", "a/../b", "/x", "x/", "a//b", ".x", "nul", "a/com1.x", "X", "x y", "a\\b", "a\0b", "a" * 256]


async def test_what_is_no_name(ask: Ask, hub: Hub) -> None:
    """400 before anybody is asked, in a path too, however it is written there (H7)."""
    for name in NO_NAMES:
        assert (await ask("POST", "/v0/models", repo=REPO, policy="speed", name=name))[0] == 400
        quoted = "".join(f"%{byte:02X}" for byte in name.encode())
        for method in ("GET", "PATCH", "DELETE"):
            status, refused = await ask(method, f"/v0/models/{quoted}")
            assert (status, "no name of a model" in refused["error"]["message"]) == (400, True), (method, name)
    assert await hub.counts() == {}


async def test_a_name_that_is_taken(ask: Ask) -> None:
    """409, and the first stays as it was."""
    _, first = await ask("POST", "/v0/models", repo=REPO, policy="memory", name="m")
    status, refused = await ask("POST", "/v0/models", repo=REPO, policy="quality", name="m")
    assert (status, refused["error"]["code"]) == (409, "already_exists")
    assert (await ask("GET", "/v0/models"))[1] == [first]


async def test_a_redirect_to_another_place(ask: Ask, hub: Hub) -> None:
    """403 that names it; it is not asked (H3)."""
    await hub.set(Options(redirect_host="elsewhere.example"))
    status, refused = await ask("POST", "/v0/models", repo=REPO, policy="memory")
    assert (status, refused["error"]["code"]) == (403, "origin_denied")
    assert "elsewhere.example" in refused["error"]["message"]


async def test_a_hub_that_stumbles(ask: Ask, hub: Hub) -> None:
    """It is asked again; what is registered is whole."""
    await hub.set(Options(fail=1))
    assert (await ask("POST", "/v0/models", repo=REPO, policy="memory"))[0] == 201


async def test_it_is_there_after_a_restart(config: RouterConfig) -> None:
    """What was registered is kept; what was removed is not."""
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        _, made = await asking(client)("POST", "/v0/models", repo=REPO, policy="memory", chat_template="{{ x }}")
        await asking(client)("POST", "/v0/models", repo=REPO, policy="memory", name="gone")
        await asking(client)("DELETE", "/v0/models/gone")
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        assert await asking(client)("GET", "/v0/models") == (200, [made])


async def test_what_was_done_is_in_the_log(ask: Ask) -> None:
    """Who registered, changed and removed what (F4)."""
    await ask("POST", "/v0/models", repo=REPO, policy="memory", name="m")
    await ask("PATCH", "/v0/models/m", display_name="M")
    await ask("PATCH", "/v0/models/m", display_name="M")
    await ask("DELETE", "/v0/models/m")
    _, events = await ask("GET", "/v0/events?q=model.")
    told = [(event["event"], event["name"]) for event in events]
    assert sorted(told) == [("model.added", "m"), ("model.changed", "m"), ("model.removed", "m")]
