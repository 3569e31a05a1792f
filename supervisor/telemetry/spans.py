"""What a span is to the rest of the program; nobody who only opens one needs OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Protocol

Kind = Literal["internal", "server", "client", "consumer"]
Value = str | int | float | bool


class Span:
    """A step of a trace, from entering it to leaving it.  This one is for where nobody traces: it keeps nothing.

    traceparent: its W3C context, for those who go on with the trace in another process.  trace_id: 32 hex digits.
    """

    traceparent = ""
    trace_id = ""

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What escapes marks the span as failed, by its code."""

    def set_attributes(self, **attributes: Value) -> None:
        """Attributes that are known only now; each is named `darkroom.<name>` in the trace."""

    def fail(self, code: str) -> None:
        """It has failed, with this error code."""


class Tracer(Protocol):
    """Makes spans and sends them somewhere, from a thread of its own."""

    def span(
        self, name: str, kind: Kind, parent: str, started_ago: float, attributes: Mapping[str, Value]
    ) -> Span:
        """A span, begun."""

    def traceparent(self) -> str:
        """The context of the span that is open here; empty when none is."""

    def close(self) -> None:
        """Send what is left.  Blocks for as long as that takes."""


NO_SPAN = Span()
