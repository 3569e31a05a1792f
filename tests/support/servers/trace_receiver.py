"""A collector of traces on loopback: it takes OTLP over HTTP and answers a test's questions about the spans."""

from __future__ import annotations

import dataclasses
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support.servers.served_app import ServedApp


@dataclasses.dataclass(frozen=True)
class Sent:
    """A span as it arrived.  ids: in hex; parent: empty for a root; error: its code; times: Unix nanoseconds."""

    name: str
    part: str
    trace_id: str
    span_id: str
    parent: str
    attributes: dict[str, Any]
    error: str
    started: int
    ended: int


class TraceReceiver(ServedApp):
    """spans: what arrived, as it came; bodies: the same as bytes.  Use it as a context."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Sent] = []
        self.bodies: list[bytes] = []

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/traces", self._take)
        return app

    def of_trace(self, trace_id: str) -> list[Sent]:
        return [span for span in self.spans if span.trace_id == trace_id]

    def of_task(self, task_id: str) -> list[Sent]:
        """Every span that names the task."""
        return [span for span in self.spans if span.attributes.get("darkroom.task_id") == task_id]

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _attributes(resource.resource.attributes)
            assert about["service.name"] == "darkroom"
            for scope in resource.scope_spans:
                self.spans += [_sent(span, about["darkroom.part"]) for span in scope.spans]
        self.bodies.append(body)
        return web.Response(content_type="application/x-protobuf")


def _sent(span: trace_pb2.Span, part: str) -> Sent:
    has_failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    return Sent(
        name=span.name,
        part=part,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        error=span.status.message if has_failed else "",
        started=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
