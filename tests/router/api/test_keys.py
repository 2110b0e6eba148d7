"""`/v0/keys` and `/v0/login-links` of a running router (requirement A10)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.router.fake_node import FakeNode

from llm_router.config import RouterConfig
from llm_router.contract import Attach
from llm_router.router.app import serving

Json = Any  # whatever JSON holds


@pytest.fixture
async def doors(config: RouterConfig) -> AsyncIterator[tuple[aiohttp.ClientSession, aiohttp.ClientSession]]:
    """A running router, as a client on this machine, and as one elsewhere."""
    strict = msgspec.structs.replace(config, trust=["127.0.0.1/32"])
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(strict))
        url = f"http://127.0.0.1:{port}"
        here = await stack.enter_async_context(aiohttp.ClientSession(url))
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        there = await stack.enter_async_context(aiohttp.ClientSession(url, connector=connector))
        yield here, there


async def ask(
    api: aiohttp.ClientSession, method: str, path: str, body: object = None, key: str = ""
) -> tuple[int, Json]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    data = None if body is None else msgspec.json.encode(body)
    async with api.request(method, path, data=data, headers=headers) as response:
        answer = await response.read()
        is_json = response.content_type == "application/json" and answer
        return response.status, msgspec.json.decode(answer) if is_json else None


async def make(api: aiohttp.ClientSession, name: str, **wanted: object) -> str:
    status, made = await ask(api, "POST", "/v0/keys", {"name": name} | wanted)
    assert status == 201
    return str(made["key"])


async def test_a_key_is_made_shown_once_and_revoked(
    doors: tuple[aiohttp.ClientSession, aiohttp.ClientSession],
) -> None:
    """The list tells everything but the key; once revoked, it fails with the next request."""
    here, there = doors
    key = await make(here, "ci", expires="30d", models=["m"])
    status, (shown,) = await ask(here, "GET", "/v0/keys")
    assert (status, shown["name"], shown["scope"], shown["models"]) == (200, "ci", "inference", ["m"])
    assert shown["expires"] == pytest.approx(shown["created"] + 30 * 86_400)
    assert key not in str(shown)
    assert (await ask(there, "GET", "/v1/models", key=key))[0] == 200
    assert (await ask(there, "GET", "/v1/models"))[0] == 401
    assert (await ask(here, "DELETE", "/v0/keys/ci"))[0] == 204
    status, refused = await ask(there, "GET", "/v1/models", key=key)
    assert (status, refused["error"]["code"]) == (401, "invalid_api_key")
    assert (await ask(here, "DELETE", "/v0/keys/ci"))[0] == 404


async def test_a_key_for_inference_does_no_more(doors: tuple[aiohttp.ClientSession, aiohttp.ClientSession]) -> None:
    """403 for what is the administrator's: above all, it makes no keys."""
    here, there = doors
    plain, admin = await make(here, "ci"), await make(here, "ops", scope="admin")
    for method, path in [
        ("POST", "/v0/keys"),
        ("POST", "/v0/login-links"),
        ("GET", "/v0/nodes"),
        ("GET", "/v0/events"),
    ]:
        status, refused = await ask(there, method, path, {"name": "x"}, key=plain)
        assert (status, refused["error"]["code"]) == (403, "forbidden")
    assert (await ask(there, "POST", "/v0/keys", {"name": "x"}, key=admin))[0] == 201


async def test_a_key_may_be_for_some_models(
    doors: tuple[aiohttp.ClientSession, aiohttp.ClientSession], node: FakeNode
) -> None:
    """Any other is 403, before any node is asked; the history has the key's name."""
    here, there = doors
    assert (await ask(here, "POST", "/v0/nodes/attach", Attach(node.address.url, "openai", name="lab")))[0] == 201
    key = await make(here, "ci", models=["m"])
    path = "/v1/chat/completions"
    refused = await make(here, "other", models=["another"])
    status, answer = await ask(there, "POST", path, {"model": "m", "messages": []}, key=refused)
    assert (status, answer["error"]["code"]) == (403, "forbidden")
    assert (await ask(there, "POST", path, {"model": "m", "messages": []}, key=key))[0] == 404  # the fake's own
    requests = (await ask(here, "GET", "/v0/requests"))[1]
    shown = requests["requests"] if isinstance(requests, dict) else requests
    assert {r["client"] for r in shown if r["model"] == "m"} == {"ci@127.0.0.2", "other@127.0.0.2"}


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"name": ""},
        {"name": "a/b"},
        {"name": "x", "scope": "god"},
        {"name": "x", "expires": "yesterday"},
        {"name": "x", "expires": "2020-01-01"},
        {"name": "x", "models": "m"},
        {"name": "x", "expire": "30d"},
    ],
)
async def test_what_is_no_key(api: aiohttp.ClientSession, wanted: dict[str, object]) -> None:
    """400 that says what is wrong; an unknown field too, since `expire` would be a key for ever."""
    status, refused = await ask(api, "POST", "/v0/keys", wanted)
    assert status == 400
    assert refused["error"]["message"]
    assert (await ask(api, "GET", "/v0/keys"))[1] == []


async def test_events_tell_who_did_it(doors: tuple[aiohttp.ClientSession, aiohttp.ClientSession]) -> None:
    """Keys made and revoked, links made, refusals: never with a secret."""
    here, there = doors
    key = await make(here, "ops", scope="admin")
    link = (await ask(there, "POST", "/v0/login-links", key=key))[1]
    await ask(there, "GET", "/v0/nodes", key="lr-" + "x" * 43)
    await ask(there, "DELETE", "/v0/keys/ops", key=key)
    answer = (await ask(here, "GET", "/v0/events"))[1]
    events = answer["events"] if isinstance(answer, dict) else answer
    told = {e["event"]: e["detail"] for e in events}
    assert told["key.created"].startswith("by this machine: key-")
    assert told["login.link_made"] == "by key 'ops'"
    assert told["key.revoked"].startswith("by key 'ops'")
    assert told["access.refused"] == "/v0/nodes: invalid_api_key"
    for secret in (key, link["path"].partition("=")[2], "x" * 43):
        assert secret not in str(events)


async def test_keys_survive_a_restart(config: RouterConfig) -> None:
    """What was made yesterday works today."""
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        key = await make(api, "ci")
    always = msgspec.structs.replace(config, auth="always")
    async with serving(always) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        assert (await ask(api, "GET", "/v1/models", key=key))[0] == 200
        assert (await ask(api, "GET", "/v1/models"))[0] == 401
