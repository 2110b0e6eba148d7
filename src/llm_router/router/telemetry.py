"""Traces: one span for each request, made from its record when it is over. The extra `otel`, where a variable asks.

Rule 1: OpenTelemetry's own variables decide: it is loaded where OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) is
        set, and neither OTEL_SDK_DISABLED nor OTEL_TRACES_EXPORTER=none; they also say where to and with which headers.
Rule 2: a request pays nothing: the ledger shows its record to those who watch, and a thread makes spans of records.
        What comes while LIMIT batches wait is left out, and counted.
Names are those of the semantic conventions for generative AI ("gen_ai.*"); what they have no name for is llm_router.*.
"""

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

import structlog

from llm_router import __version__
from llm_router.contract import Address
from llm_router.core.usage import RequestRecord

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger()

Value = str | int | float | bool
Batch = tuple[Sequence[RequestRecord], dict[str, Address | None]]

LIMIT = 16  # batches of the ledger: a second of 16,000 requests, or 16 seconds of few
FLUSH_MS = 5000  # milliseconds that the last spans have at the end: a collector that is gone shall not keep us

# What the conventions call each operation ("gen_ai.operation.name"); one that has no name there keeps its own.
OPERATIONS: Final = {
    "chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "generate": "text_completion",
    "completions": "text_completion",
    "embed": "embeddings",
    "embeddings": "embeddings",
}

# W3C Trace Context, "traceparent Header": version 00, trace id, parent id, flags.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


def is_wanted(env: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces (rule 1)."""
    endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    off = env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
    return bool(endpoint) and not off


def make_telemetry(env: Mapping[str, str], address: Callable[[str], Address | None]) -> "Telemetry | None":
    """Telemetry where `env` asks for it; None: it does not, or OpenTelemetry is not there, which the log then says."""
    if not is_wanted(env):
        return None
    try:
        return Telemetry(address)
    except ImportError as error:
        log.warning("telemetry.not_installed", error=str(error), install='pip install "llm-router-system[otel]"')
        return None


class Telemetry:
    """A watcher of the ledger. `stop` sends what is left, and blocks meanwhile: not on the event loop."""

    def __init__(self, address: Callable[[str], Address | None]) -> None:
        """`address`: where a node is, by its id.

        Raises:
            ImportError: the extra is not installed.
        """
        self._address = address
        self._provider = _provider()
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()
        self.left_out = 0
        self._thread = threading.Thread(target=self._work, name="telemetry", daemon=True)
        self._thread.start()

    def __call__(self, records: Sequence[RequestRecord]) -> None:
        """Make spans of these, later."""
        if self._batches.qsize() >= LIMIT:
            self.left_out += len(records)
            return
        nodes = {record.node_id for record in records}
        self._batches.put((records, {node_id: self._address(node_id) for node_id in nodes}))

    def stop(self) -> None:
        """Send what is left, and end."""
        self._batches.put(None)
        self._thread.join()
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()
        if self.left_out:
            log.warning("telemetry.left_out", requests=self.left_out)

    def _work(self) -> None:
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415 - an extra

        tracer = self._provider.get_tracer("llm_router", __version__)
        while (batch := self._batches.get()) is not None:
            records, addresses = batch
            for record in records:
                span = tracer.start_span(
                    f"{operation_of(record)} {record.model}".rstrip(),
                    _parent(record.trace),
                    SpanKind.CLIENT,
                    dict(attributes(record, addresses[record.node_id])),
                    start_time=_nanoseconds(record.at - record.seconds),
                )
                if failure := error_type(record):
                    span.set_status(StatusCode.ERROR, record.error or failure)
                span.end(_nanoseconds(record.at))


def operation_of(record: RequestRecord) -> str:
    """What the conventions call it: "openai.chat" is chat."""
    name = record.operation.partition(".")[2]
    return OPERATIONS.get(name, name)


def error_type(record: RequestRecord) -> str:
    """`error.type`, of which there shall be few: the status that the client got, or how it ended; "" for a good end."""
    if record.status >= 400 and record.outcome != "cancelled":
        return str(record.status)
    return "" if record.outcome == "done" else record.outcome


def attributes(record: RequestRecord, address: Address | None) -> Iterator[tuple[str, Value]]:
    """Of a span; what is not known is left out. Times in seconds."""
    yield "gen_ai.operation.name", operation_of(record)
    yield "gen_ai.provider.name", record.operation.partition(".")[0]
    yield "llm_router.request.id", record.id
    yield "llm_router.outcome", record.outcome
    yield "llm_router.streamed", record.streamed
    yield "llm_router.attempts", record.attempts
    yield "http.response.status_code", record.status
    yield "llm_router.client", record.client
    known: tuple[tuple[str, Value], ...] = (
        ("gen_ai.request.model", record.model),
        ("gen_ai.usage.input_tokens", record.prompt_tokens),
        ("gen_ai.usage.output_tokens", record.completion_tokens),
        ("error.type", error_type(record)),
        ("llm_router.node.id", record.node_id),
        ("llm_router.node.name", record.node),
        ("llm_router.queue_wait", record.waited),
        ("llm_router.time_to_first_token", record.first_byte if record.streamed else 0.0),
    )
    yield from ((name, value) for name, value in known if value)
    if address is not None:
        yield "server.address", address.host
        yield "server.port", address.port


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _parent(traceparent: str) -> "Context | None":
    """The client's span, where it said which; without one the span is the first of its trace."""
    from opentelemetry.trace import (  # noqa: PLC0415 - an extra
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    trace, span, flags = (int(part, 16) for part in found.groups())
    return set_span_in_context(
        NonRecordingSpan(SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(flags)))
    )


def _provider() -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above

    provider = TracerProvider(resource=Resource.create(_resource(os.environ)), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _resource(env: Mapping[str, str]) -> dict[str, Value]:
    """Who we are, unless OpenTelemetry's own variables say so."""
    named = "OTEL_SERVICE_NAME" in env or "service.name=" in env.get("OTEL_RESOURCE_ATTRIBUTES", "")
    ours: dict[str, Value] = {"service.version": __version__}
    return ours if named else ours | {"service.name": "llm-router"}
