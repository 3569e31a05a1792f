"""Spans by OpenTelemetry's SDK, sent over OTLP by the SDK's own thread.  The only module that imports it.

The SDK reads its destination, interval, sampling and headers itself from its OTEL_ variables.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextvars import Token
from types import TracebackType

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from supervisor.telemetry.spans import Kind, Span, Value

WARN_AGAIN_SECONDS = 60.0
_SERVICE = "darkroom"
_KINDS: Mapping[Kind, trace.SpanKind] = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "consumer": trace.SpanKind.CONSUMER,
}
_TRACE_CONTEXT = TraceContextTextMapPropagator()


def open_tracer(part: str) -> OtlpTracer:
    """A tracer for this part of Darkroom."""
    return OtlpTracer(part)


class OtlpTracer:
    """Spans of one process.  They wait in a queue of the SDK; spans that do not fit are dropped."""

    def __init__(self, part: str) -> None:
        warnings = SeldomWarnings()
        logging.getLogger("opentelemetry.util.re").addFilter(_hide_header)  # it may be a key
        for name in (
            "opentelemetry.exporter.otlp.proto.http.trace_exporter",
            "opentelemetry.sdk._shared_internal",
        ):
            logging.getLogger(name).addFilter(warnings)
        resource = Resource.create({"darkroom.part": part})
        if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: _SERVICE}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("darkroom")

    def span(
        self, name: str, kind: Kind, parent: str, started_ago: float, attributes: Mapping[str, Value]
    ) -> Span:
        """A span, begun."""
        return _OpenSpan(
            self._tracer.start_span(
                name,
                context=_TRACE_CONTEXT.extract({"traceparent": parent}, Context()) if parent else None,
                kind=_KINDS[kind],
                attributes=_named(attributes),
                start_time=time.time_ns() - int(started_ago * 1e9),
                record_exception=False,  # its text may hold private data
                set_status_on_exception=False,
            )
        )

    def traceparent(self) -> str:
        """The context of the open span; empty if there is none."""
        carrier: dict[str, str] = {}
        _TRACE_CONTEXT.inject(carrier)
        return carrier.get("traceparent", "")

    def close(self) -> None:
        """Send the remaining spans."""
        self._provider.shutdown()


class _OpenSpan(Span):
    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token: Token[Context] | None = None
        carrier: dict[str, str] = {}
        _TRACE_CONTEXT.inject(carrier, trace.set_span_in_context(span, Context()))
        self.traceparent = carrier.get("traceparent", "")
        self.trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        self._has_failed = False

    def __enter__(self) -> Span:
        self._token = contexts.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            contexts.detach(self._token)
        if isinstance(error, Exception) and not self._has_failed:
            self.fail(str(getattr(error, "code", "")) or type(error).__name__)
        elif error is not None:  # cancelled: not its own outcome
            self.set_attributes(outcome="cancelled")
        self._span.end()

    def set_attributes(self, **attributes: Value) -> None:
        self._span.set_attributes(_named(attributes))

    def fail(self, code: str) -> None:
        self._has_failed = True
        self._span.set_attribute("error.type", code)
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, code))


def _named(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {f"darkroom.{name}": value for name, value in attributes.items()}


class SeldomWarnings(logging.Filter):
    """Log a collector that takes no spans at intervals, in a sentence, without retries and addresses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        said_lately = self._said_at is not None and now - self._said_at < WARN_AGAIN_SECONDS
        if record.levelno < logging.WARNING or said_lately:
            return False
        self._said_at = now
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg = (
            "the collector of traces takes none%s; what it misses is lost, and tasks go on without it"
        )
        record.args, record.exc_info = (_why(record),), None
        return True


def _why(record: logging.LogRecord) -> str:
    """The HTTP status or the kind of error in the exporter's line; its text may hold an address, so it is dropped."""
    for known in record.args if isinstance(record.args, tuple) else ():
        if isinstance(known, int):
            return f" (it answers {known})"
        if isinstance(known, Exception):
            return f" ({type(known).__name__})"
    return ""


def _hide_header(record: logging.LogRecord) -> bool:
    record.msg, record.args = (
        "a header in OTEL_EXPORTER_OTLP_HEADERS is not NAME=VALUE, and is not sent",
        None,
    )
    return True
