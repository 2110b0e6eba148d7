"""`/v0/requests`, `/v0/events` and `/health` of a running router (requirement F4)."""

from typing import Any

import aiohttp
import msgspec
import pytest
from tests.router.fake_node import FakeNode

from llm_router.config import RouterConfig
from llm_router.contract import Attach
from llm_router.router.app import serving


async def fetch(api: aiohttp.ClientSession, path: str, **params: str | int) -> Any:  # noqa: ANN401 - any JSON
    async with api.get(path, params=params) as response:
        assert response.status == 200
        return msgspec.json.decode(await response.read())


async def attach(api: aiohttp.ClientSession, node: FakeNode) -> None:
    body = msgspec.json.encode(Attach(node.address.url, "openai", name="lab"))
    async with api.post("/v0/nodes/attach", data=body) as response:
        assert response.status == 201


async def event_names(api: aiohttp.ClientSession) -> list[str]:
    return [e["event"] for e in await fetch(api, "/v0/events")]


async def ask(api: aiohttp.ClientSession, model: str) -> int:
    async with api.post("/v1/chat/completions", data=msgspec.json.encode({"model": model, "messages": []})) as response:
        await response.read()
        return response.status


async def test_requests_are_on_record_as_soon_as_they_are_answered(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement F4: newest first, with what was asked and how it ended; refused ones, too."""
    await attach(api, node)
    assert await ask(api, "m") == 404  # the fake server answers nothing but lists
    assert await ask(api, "unheard of") == 404
    refused, passed = await fetch(api, "/v0/requests")
    assert (passed["model"], passed["node"], passed["operation"]) == ("m", "lab", "openai.chat")
    assert (refused["model"], refused["node"], refused["outcome"]) == ("unheard of", "", "refused")


async def test_a_failed_request_has_the_node_looked_at(config: RouterConfig, node: FakeNode) -> None:
    """Requirement E1: a killed server is out at the first request, long before its next regular check."""
    patient = msgspec.structs.replace(config, probe_every=3600.0)
    async with serving(patient) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        await attach(api, node)
        await node.stop()
        assert await ask(api, "m") == 502
        while (await fetch(api, "/health"))["online"] or "node.offline" not in await event_names(api):
            pass
        assert (await event_names(api))[:2] == ["node.offline", "node.suspect"]
        assert await ask(api, "m") == 503


async def test_requests_can_be_narrowed_down(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """By model, by node, by number."""
    await attach(api, node)
    for model in ("m", "x", "m"):
        await ask(api, model)
    assert [r["model"] for r in await fetch(api, "/v0/requests", model="m")] == ["m", "m"]
    assert [r["model"] for r in await fetch(api, "/v0/requests", node="lab", limit=1)] == ["m"]
    assert await fetch(api, "/v0/requests", model="m", node="elsewhere") == []


@pytest.mark.parametrize("path", ["/v0/requests", "/v0/events"])
@pytest.mark.parametrize("limit", ["0", "1001", "many"])
async def test_a_limit_has_limits(api: aiohttp.ClientSession, path: str, limit: str) -> None:
    """400 that names the parameter."""
    async with api.get(path, params={"limit": limit}) as response:
        assert response.status == 400
        assert "limit" in msgspec.json.decode(await response.read())["error"]["message"]


async def test_events_tell_what_happened(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement F4: registrations and status changes, newest first."""
    await attach(api, node)
    assert await event_names(api) == ["node.online", "node.models_changed", "node.added"]
    assert {e["name"] for e in await fetch(api, "/v0/events")} == {"lab"}
    assert [e["event"] for e in await fetch(api, "/v0/events", limit=1)] == ["node.online"]


async def test_history_survives_a_restart(config: RouterConfig, node: FakeNode) -> None:
    """Requirement F4: it is in the database, even what happened in the router's last moment."""
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        await attach(api, node)
        await ask(api, "m")
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        assert [r["model"] for r in await fetch(api, "/v0/requests")] == ["m"]
        assert "node.added" in await event_names(api)


async def test_health_counts_the_nodes(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """The router is healthy without nodes, too."""
    health = await fetch(api, "/health")
    assert (health["status"], health["nodes"], health["online"]) == ("ok", 0, 0)
    await attach(api, node)
    health = await fetch(api, "/health")
    assert (health["nodes"], health["online"]) == (1, 1)
