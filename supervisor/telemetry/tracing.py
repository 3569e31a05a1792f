"""One trace from a task's submission to its end, if the environment names a collector of OpenTelemetry traces.

The program uses only this interface; without tracing, its spans do nothing.  OpenTelemetry is an extra: only
`supervisor.telemetry.opentelemetry_spans` imports it, and only in a process whose environment asks for it.  In all
other processes a span costs one `if`.  OpenTelemetry's own variables configure it (OTEL_EXPORTER_OTLP_ENDPOINT, …).

A span names tasks, workers and providers.  It never holds a user's id, params, prompts, pictures, addresses or the text
of an error, because the collector belongs to another party.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

from supervisor.core.errors import SettingFault
from supervisor.telemetry.spans import NO_SPAN, Kind, Span, Tracer, Value

EXTRA = "darkroom-queue[otel]"
FLUSH_SECONDS = 3.0  # at the end of a process, for unsent spans; `up` waits longer than that
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"


_tracer: Tracer | None = None


def is_on() -> bool:
    """Whether this process traces."""
    return _tracer is not None


def span(
    name: str, kind: Kind = "internal", *, parent: str = "", started_ago: float = 0.0, **attributes: Value
) -> Span:
    """A span, begun so many seconds ago.  parent: a `traceparent`; else the open span, if there is one.

    While it is open, new spans are its children, also in tasks of the event loop that are made meanwhile.
    """
    if _tracer is None:
        return NO_SPAN
    return _tracer.span(name, kind, parent, started_ago, attributes)


def traceparent() -> str:
    """The W3C context of the open span; empty without one, and without tracing."""
    return _tracer.traceparent() if _tracer is not None else ""


def collector(environ: Mapping[str, str]) -> str:
    """The collector's address; empty without tracing.  Raises SettingFault for impossible settings."""
    endpoint = next((environ[name] for name in _ENDPOINTS if environ.get(name)), "")
    is_off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not endpoint or is_off or environ.get("OTEL_TRACES_EXPORTER", "").strip() == "none":
        return ""
    name = next(name for name in _ENDPOINTS if environ.get(name))
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingFault(
            f"{name} is not an address such as http://127.0.0.1:4318; set it to your collector's, or unset it."
        )
    protocol = next((environ[each] for each in _PROTOCOLS if environ.get(each)), _PROTOCOL)
    if protocol != _PROTOCOL:
        raise SettingFault(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is '{protocol}', but traces are sent as {_PROTOCOL} only; unset it, and name "
            "the collector's port for that, usually 4318."
        )
    try:
        import supervisor.telemetry.opentelemetry_spans  # noqa: F401  the extra need not be installed
    except ImportError:
        raise SettingFault(
            f"{name} is set, but OpenTelemetry is not installed; run `pip install '{EXTRA}'`, or unset it."
        ) from None
    return endpoint


def begin_tracing(part: str) -> None:
    """Start tracing in this process, if its environment says so.  part: `web`, `worker`.  Raises SettingFault."""
    global _tracer
    if collector(os.environ):
        from supervisor.telemetry.opentelemetry_spans import open_tracer  # only where it is wanted

        try:
            _tracer = open_tracer(part)
        except ValueError as error:
            raise SettingFault(f"OpenTelemetry can't work with its OTEL_ variables: {error}") from None


def end_tracing() -> None:
    """Send the remaining spans, for at most FLUSH_SECONDS; later spans are lost.  Blocks."""
    global _tracer
    tracer, _tracer = _tracer, None
    if tracer is not None:
        # The SDK has no limit here: if the collector hangs, the waiting daemon thread is left behind.
        thread = threading.Thread(target=tracer.close, name="last-spans", daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS)
