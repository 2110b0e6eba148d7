"""`/v0/requests`, `/v0/events` and `/health` of a running router (requirement F4)."""

import asyncio
import csv
import io
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


async def test_requests_can_be_searched(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement F4: by status or a class of them, by words; page after page; one by its id."""
    await attach(api, node)
    for model in ("m", "x", "y"):
        await ask(api, model)
    assert [r["model"] for r in await fetch(api, "/v0/requests", status="404", q="NOT FOUND")] == ["y", "x"]
    assert [r["model"] for r in await fetch(api, "/v0/requests", status="4xx", outcome="done")] == ["m"]
    assert await fetch(api, "/v0/requests", status="5xx") == []
    first, second = await fetch(api, "/v0/requests", limit=2)
    assert (first["model"], second["model"]) == ("y", "x")
    (third,) = await fetch(api, "/v0/requests", before=second["seq"])
    assert third["model"] == "m"
    assert await fetch(api, f"/v0/requests/{third['id']}") == third
    async with api.get("/v0/requests/never-asked") as response:
        assert response.status == 404
        assert msgspec.json.decode(await response.read())["error"]["code"] == "not_found"


@pytest.mark.parametrize("query", ["status=9", "status=2x", "outcome=fine", "before=-1", "before=9e99", "since=noon"])
async def test_what_cannot_be_searched_for_is_named(api: aiohttp.ClientSession, query: str) -> None:
    """400 with the parameter's name."""
    async with api.get(f"/v0/requests?{query}") as response:
        assert response.status == 400
        assert query.partition("=")[0] in msgspec.json.decode(await response.read())["error"]["message"]


async def test_history_can_be_taken_along(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement F4: as CSV and as JSON, under a name with a date; what was filtered is filtered there."""
    await attach(api, node)
    for model in ("m", "modèle, 東京"):
        await ask(api, model)
    for query, headers in {"?format=csv": {}, "": {"accept": "text/csv"}}.items():
        async with api.get(f"/v0/requests{query}", headers=headers) as response:
            assert response.headers["content-disposition"].startswith('attachment; filename="requests-2')
            assert response.headers["content-type"] == "text/csv; charset=utf-8"
            rows = list(csv.DictReader(io.StringIO((await response.read()).decode())))
        assert [(row["model"], row["status"], row["streamed"]) for row in rows] == [
            ("modèle, 東京", "404", "false"),
            ("m", "404", "false"),
        ]
    assert [r["model"] for r in await fetch(api, "/v0/requests", format="json", model="m")] == ["m"]
    assert await fetch(api, "/v0/requests", format="json", model="never") == []
    assert [e["event"] for e in await fetch(api, "/v0/events", format="json", q="pulled")] == ["node.online"]


async def test_a_spreadsheet_runs_nothing_of_a_clients(api: aiohttp.ClientSession) -> None:
    """Whoever names a model after a formula finds a quote before it."""
    formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"]
    for model in formulas:
        await ask(api, model)
    async with api.get("/v0/requests", params={"format": "csv"}) as response:
        rows = list(csv.DictReader(io.StringIO((await response.read()).decode())))
    assert [row["model"] for row in rows] == [f"'{formula}" for formula in reversed(formulas)]


async def test_events_can_be_searched(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement F4: by name, by node, by words, page after page."""
    await attach(api, node)
    assert [e["event"] for e in await fetch(api, "/v0/events", event="node.added")] == ["node.added"]
    assert len(await fetch(api, "/v0/events", event="node.", node="lab")) == 3
    assert [e["event"] for e in await fetch(api, "/v0/events", q="pulled")] == ["node.online"]
    (newest,) = await fetch(api, "/v0/events", limit=1)
    assert "node.online" not in [e["event"] for e in await fetch(api, "/v0/events", before=newest["seq"])]


async def test_a_browser_sees_what_happens(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement F2: a new node, its events, and requests as they end, within 2 s and with no reload."""
    async with api.get("/v0/events", headers={"accept": "text/event-stream"}) as stream, asyncio.timeout(10):
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        _, name, hello = await message(stream)
        assert (name, hello["policy"], hello["who"]["local"]) == ("hello", "expected-latency", True)
        assert "llm-router node" in hello["join"]["command"]
        assert await names(stream, 2) == ["nodes", "rates"]
        await attach(api, node)
        _, name, shown = await message(stream)
        assert (name, shown["name"], shown["machine"], shown["state"]) == ("node", "lab", "lab", "online")
        assert abs(shown["since"] - shown["last_seen"]) < 60
        assert await names(stream, 3) == ["event"] * 3
        await ask(api, "m")
        id_, (ended,) = await told(stream, "requests")
        assert (ended["model"], ended["node"]) == ("m", "lab")
        _, rates = await told(stream, "rates")
        assert [n["done"] for n in rates["nodes"].values()] == [1]
    headers = {"accept": "text/event-stream", "last-event-id": id_}
    async with api.get("/v0/events?since=1-1", headers=headers) as stream, asyncio.timeout(10):
        await told(stream, "rates")  # and no greeting before it


async def told(stream: aiohttp.ClientResponse, wanted: str) -> tuple[str, Any]:
    """The next message of this name: its id, its data. A node's reports, and rates, come at their seconds besides."""
    while True:
        id_, name, data = await message(stream)
        if name == wanted:
            return id_, data
        assert name in {"node", "rates"}


async def names(stream: aiohttp.ClientResponse, count: int) -> list[str]:
    return [(await message(stream))[1] for _ in range(count)]


async def message(stream: aiohttp.ClientResponse) -> tuple[str, str, Any]:
    """The next message: its id, its name, its data."""
    fields: dict[str, str] = {}
    async for line in stream.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        fields[name] = value
        if name == "data":
            return fields["id"], fields["event"], msgspec.json.decode(value)
    raise AssertionError("the stream has ended")


async def test_a_browser_is_shown_the_dashboard(api: aiohttp.ClientSession) -> None:
    """At `/`, where everybody else sees what Ollama says there."""
    async with api.get("/", headers={"accept": "text/html"}, allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (303, "/dashboard")
    async with api.get("/") as response:
        assert await response.text() == "Ollama is running"
