"""The interface of a span, which does not need OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Protocol

Kind = Literal["internal", "server", "client", "consumer"]
Value = str | int | float | bool


class Span:
    """A part of a trace, from entering it to leaving it.  This base class is used without tracing: it records nothing.

    traceparent: its W3C context, to go on with the trace in another process.  trace_id: 32 hex digits.
    """

    traceparent = ""
    trace_id = ""

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """An escaping exception marks the span as failed, with its code."""

    def set_attributes(self, **attributes: Value) -> None:
        """Set further attributes; each is named `darkroom.<name>` in the trace."""

    def fail(self, code: str) -> None:
        """Mark the span as failed with this error code."""


class Tracer(Protocol):
    """Makes spans and sends them from its own thread."""

    def span(
        self, name: str, kind: Kind, parent: str, started_ago: float, attributes: Mapping[str, Value]
    ) -> Span:
        """A span, begun."""

    def traceparent(self) -> str:
        """The context of the open span; empty if there is none."""

    def close(self) -> None:
        """Send the remaining spans.  Blocks for as long as that takes."""


NO_SPAN = Span()
