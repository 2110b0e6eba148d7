"""`GET /metrics` of a running router, read as Prometheus reads it."""

import aiohttp
import msgspec
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.doubles.fake_runtime import FakeRuntime, Options
from tests.router.fake_node import FakeNode

from llm_router.config import RouterConfig
from llm_router.contract import Attach, Gpu, Heartbeat
from llm_router.router.app import serving


async def metrics(api: aiohttp.ClientSession) -> dict[str, Metric]:
    async with api.get("/metrics") as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return {family.name: family for family in text_string_to_metric_families(await response.text())}


def values(found: dict[str, Metric], name: str, **labels: str) -> list[float]:
    """Of the samples with these labels."""
    samples = found[name].samples if name in found else []
    return [s.value for s in samples if labels.items() <= s.labels.items()]


async def attach(api: aiohttp.ClientSession, url: str) -> None:
    async with api.post("/v0/nodes/attach", data=msgspec.json.encode(Attach(url, "openai", name="lab"))) as response:
        assert response.status == 201


async def chat(api: aiohttp.ClientSession, model: str) -> int:
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    async with api.post("/v1/chat/completions", data=msgspec.json.encode(body)) as response:
        await response.read()
        return response.status


async def test_an_answered_request_is_in_every_figure_at_once(api: aiohttp.ClientSession) -> None:
    """Count, tokens, first token, whole answer, wait: with its model and its node."""
    async with FakeRuntime(Options(kind="openai", models=["tiny"], tokens=7)) as runtime:
        await attach(api, runtime.url)
        assert await chat(api, "tiny") == 200
        found = await metrics(api)
    place = {"model": "tiny", "node": "lab"}
    assert values(found, "llm_router_requests", **place, operation="openai.chat", status="200", outcome="done") == [1]
    assert values(found, "llm_router_tokens", **place, type="completion") == [7]
    for histogram in ("time_to_first_token_seconds", "request_duration_seconds"):
        assert values(found, f"llm_router_{histogram}", **place, le="+Inf") == [1]
    assert values(found, "llm_router_queue_wait_seconds", model="tiny", le="+Inf") == [1]


async def test_errors_are_counted(api: aiohttp.ClientSession) -> None:
    """And a name that no node lists is no label."""
    async with FakeRuntime(Options(kind="openai", models=["tiny"])) as runtime:
        await attach(api, runtime.url)
        for number in range(3):
            assert await chat(api, f"made up {number}") == 404
        found = await metrics(api)
    assert values(found, "llm_router_requests", model="other", status="404", outcome="refused") == [3]


async def test_nodes_are_described(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """State, slots, load, memory, graphics processors: in base units."""
    async with api.post("/v0/nodes", data=msgspec.json.encode(node.registration("n1"))) as response:
        secret = msgspec.json.decode(await response.read())["node_secret"]
    gpu = Gpu("RTX 4090", memory_total=24 << 30, memory_used=6 << 30, utilization=50.0, temperature=61.0)
    report = Heartbeat(cpu=25.0, memory=75.0, memory_total=64 << 30, gpus=[gpu], loaded=["m"], slots=3)
    bearer = {"authorization": f"Bearer {secret}"}
    async with api.post("/v0/nodes/n1/heartbeat", data=msgspec.json.encode(report), headers=bearer) as response:
        assert response.status == 200
    while not values(found := await metrics(api), "llm_router_node_state", node_id="n1", state="online"):
        pass
    wanted = {
        "llm_router_node_cpu_ratio": 0.25,
        "llm_router_node_memory_used_ratio": 0.75,
        "llm_router_node_memory_total_bytes": 64 << 30,
        "llm_router_node_gpu_utilization_ratio": 0.5,
        "llm_router_node_gpu_memory_used_bytes": 6 << 30,
        "llm_router_node_gpu_temperature_celsius": 61,
        "llm_router_node_slots": 3,
        "llm_router_node_loaded_models": 1,
        "llm_router_node_in_flight_requests": 0,
    }
    assert {name: values(found, name, node_id="n1", node="fake machine") for name in wanted} == {
        name: [value] for name, value in wanted.items()
    }
    assert values(found, "llm_router_nodes", state="online") == [1]
    assert values(found, "llm_router_model_nodes", model="m") == [1]
    assert values(found, "llm_router_model_loaded_nodes", model="m") == [1]


async def test_an_attached_server_has_no_machine(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """It says nothing of it, and 0 would be a lie."""
    await attach(api, node.address.url)
    found = await metrics(api)
    assert values(found, "llm_router_node_info", kind="openai") == [1]
    assert values(found, "llm_router_node_cpu_ratio") == []


async def test_two_nodes_of_one_name_are_two(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """A sample that came twice would spoil the whole visit."""
    for node_id in ("n1", "n2"):
        async with api.post("/v0/nodes", data=msgspec.json.encode(node.registration(node_id))) as response:
            assert response.status == 201
    found = await metrics(api)
    seen = [(s.name, tuple(s.labels.items())) for family in found.values() for s in family.samples]
    assert len(seen) == len(set(seen))
    assert len(values(found, "llm_router_node_slots", node="fake machine")) == 2


async def test_a_router_alone_describes_itself(api: aiohttp.ClientSession) -> None:
    """Its version, its ledger, what its event loop has to do; and no samples of what is not there."""
    found = await metrics(api)
    assert values(found, "llm_router_event_loop_tasks")[0] >= 1
    assert values(found, "llm_router_build_info") == [1]
    assert values(found, "llm_router_ledger_pending_entries") == [0]
    assert values(found, "llm_router_ledger_writable") == [1]
    assert "llm_router_requests" not in found


@pytest.mark.skipif("sys.platform != 'linux'")
async def test_a_process_describes_itself(config: RouterConfig) -> None:
    """Memory and processor time, where the system tells them."""
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        found = await metrics(api)
    assert values(found, "process_resident_memory_bytes")[0] > 1_000_000
