"""Traces as a collector gets them (issue's item 4): over OTLP, with the names of the semantic conventions."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from structlog.testing import capture_logs
from tests.doubles.fake_runtime import FakeRuntime, Options
from tests.doubles.otlp_collector import OtlpCollector, Span
from tests.router.recording import record

from llm_router import __version__
from llm_router.config import RouterConfig
from llm_router.contract import Address, Attach
from llm_router.core.usage import RequestRecord
from llm_router.router import telemetry as telemetries
from llm_router.router.app import serving
from llm_router.router.telemetry import LIMIT, Telemetry, is_wanted, make_telemetry

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CLIENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OtlpCollector]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with OtlpCollector() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        yield running


def somewhere(node_id: str) -> Address | None:
    return Address("10.0.0.7", 11435) if node_id else None


async def spans(collector: OtlpCollector, *records: RequestRecord) -> list[Span]:
    telemetry = Telemetry(somewhere)
    telemetry(records)
    await asyncio.to_thread(telemetry.stop)
    return collector.spans


async def test_a_request_is_a_span_with_the_conventions_names(collector: OtlpCollector) -> None:
    """When it began and ended, what was asked of whom, and what it cost."""
    (span,) = await spans(collector, record(at=1000.0, seconds=2.5, waited=0.5))
    assert (span.name, span.kind, span.is_error) == ("chat m", "SPAN_KIND_CLIENT", False)
    assert (span.start, span.end) == (997_500_000_000, 1000_000_000_000)
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "server.address": "10.0.0.7",
        "server.port": 11435,
        "http.response.status_code": 200,
        "llm_router.request.id": "r1",
        "llm_router.node.id": "n1",
        "llm_router.node.name": "box",
        "llm_router.outcome": "done",
        "llm_router.queue_wait": 0.5,
        "llm_router.time_to_first_token": 0.3,
    }
    assert wanted.items() <= span.attributes.items()
    assert "error.type" not in span.attributes


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("openai.completions", "text_completion"),
        ("openai.embeddings", "embeddings"),
        ("openai.responses", "chat"),
        ("anthropic.messages", "chat"),
        ("ollama.generate", "text_completion"),
        ("ollama.embed", "embeddings"),
        ("ollama.show", "show"),
    ],
)
def test_operations_have_the_conventions_names(operation: str, name: str) -> None:
    """Of every API; what they do not know keeps its own."""
    assert telemetries.operation_of(record(operation=operation)) == name


@pytest.mark.parametrize(
    ("outcome", "status", "type_"),
    [("failed", 502, "502"), ("refused", 404, "404"), ("broken", 200, "broken"), ("cancelled", 499, "cancelled")],
)
async def test_a_failure_says_of_what_kind(collector: OtlpCollector, outcome: str, status: int, type_: str) -> None:
    """In few words that can be counted, and in those of the error."""
    (span,) = await spans(collector, record(outcome=outcome, status=status, error="it died"))
    assert (span.is_error, span.message, span.attributes["error.type"]) == (True, "it died", type_)


async def test_a_clients_trace_goes_on(collector: OtlpCollector) -> None:
    """W3C Trace Context: its span is the parent."""
    (span,) = await spans(collector, record(trace=CLIENT))
    assert (span.trace, span.parent) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "header", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01"]
)
async def test_what_is_no_trace_begins_one(collector: OtlpCollector, header: str) -> None:
    """As the specification wants it."""
    (span,) = await spans(collector, record(trace=header))
    assert (span.trace != TRACE, span.parent) == (True, "")


async def test_a_client_that_does_not_want_to_be_traced_is_not(collector: OtlpCollector) -> None:
    """Its flags say so."""
    assert await spans(collector, record(trace=CLIENT[:-1] + "0")) == []


async def test_we_say_who_we_are(collector: OtlpCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless OpenTelemetry's own variables do."""
    (span,) = await spans(collector, record())
    assert (span.resource["service.name"], span.resource["service.version"]) == ("llm-router", __version__)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "lab")
    _, span = await spans(collector, record())
    assert span.resource["service.name"] == "lab"


async def test_a_routers_requests_are_traced(collector: OtlpCollector, config: RouterConfig) -> None:
    """From the client's header to the collector, once each; refused ones too."""
    async with (
        FakeRuntime(Options(kind="openai", models=["tiny"])) as runtime,
        serving(config) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api,
    ):
        async with api.post("/v0/nodes/attach", data=msgspec.json.encode(Attach(runtime.url, "openai"))):
            pass
        for model in ("tiny", "unheard of"):
            body = msgspec.json.encode({"model": model, "messages": []})
            async with api.post("/v1/chat/completions", data=body, headers={"traceparent": CLIENT}) as response:
                await response.read()
    answered, refused = collector.spans
    assert (answered.trace, answered.parent, answered.attributes["server.address"]) == (TRACE, PARENT, "127.0.0.1")
    assert (refused.trace, refused.attributes["error.type"]) == (TRACE, "404")


async def test_a_collector_that_is_gone_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end comes in seconds, not when a collector does."""
    with socket.socket() as taken:  # a port where nobody answers
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        telemetry = Telemetry(somewhere)
        telemetry([record()])
        async with asyncio.timeout(30):
            await asyncio.to_thread(telemetry.stop)


async def test_what_is_too_much_is_left_out(collector: OtlpCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    """And counted, so that the memory stays bounded."""
    monkeypatch.setattr(Telemetry, "_work", lambda _self: None)
    telemetry = Telemetry(somewhere)
    with capture_logs() as logged:
        for _ in range(LIMIT + 3):
            telemetry([record()])
        await asyncio.to_thread(telemetry.stop)
    assert {"event": "telemetry.left_out", "requests": 3, "log_level": "warning"} in logged
    assert collector.spans == []


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_environment_decides(env: dict[str, str], wanted: bool) -> None:  # noqa: FBT001 - a column of the table
    """By OpenTelemetry's own variables."""
    assert is_wanted(env) is wanted
    assert wanted or make_telemetry(env, somewhere) is None


def test_who_does_not_trace_does_not_load_it() -> None:
    """A router without the extra starts as ever."""
    code = "import sys, llm_router.router.app; print('opentelemetry' in ' '.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_without_the_extra_the_log_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the router goes on: the variable may be meant for others."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with capture_logs() as logged:
        assert make_telemetry({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, somewhere) is None
    assert [line["event"] for line in logged] == ["telemetry.not_installed"]
