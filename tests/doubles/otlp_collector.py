"""A collector of traces that keeps what it gets: OTLP over HTTP, "POST /v1/traces" with protobuf.

    python tests/doubles/otlp_collector.py

prints its port, then a line for each span. In the same process: `async with OtlpCollector() as collector: ...`.
"""

import asyncio
import sys
from typing import TYPE_CHECKING, Self

import msgspec
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

Value = str | int | float | bool


class Span(msgspec.Struct):
    """One span as it came. Ids in hex, times in nanoseconds since the epoch; `resource`: who sent it."""

    name: str
    trace: str
    parent: str
    kind: str
    start: int
    end: int
    is_error: bool
    message: str
    attributes: dict[str, Value]
    resource: dict[str, Value]


class OtlpCollector:
    """Listens on loopback while the block lasts."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())
        for of_resource in message.resource_spans:
            resource = _values(of_resource.resource.attributes)
            self.spans += [_span(s, resource) for scope in of_resource.scope_spans for s in scope.spans]
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


def _span(span: SpanMessage, resource: dict[str, Value]) -> Span:
    return Span(
        span.name,
        span.trace_id.hex(),
        span.parent_span_id.hex(),
        SpanMessage.SpanKind.Name(span.kind),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == span.status.STATUS_CODE_ERROR,
        span.status.message,
        _values(span.attributes),
        resource,
    )


def _values(attributes: "list[KeyValue]") -> dict[str, Value]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value") or "string_value") for a in attributes}


async def main() -> None:
    async with OtlpCollector() as collector:
        sys.stdout.write(f"{collector.port}\n")
        shown = 0
        while True:
            sys.stdout.flush()
            await asyncio.sleep(0.1)  # noqa: TID251 - a program for people, who look now and then
            for span in collector.spans[shown:]:
                sys.stdout.write(f"{span}\n")
            shown = len(collector.spans)


if __name__ == "__main__":
    asyncio.run(main())
