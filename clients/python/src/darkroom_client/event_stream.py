"""`text/event-stream` that may be cut at any byte (HTML Living Standard, section 9.2)."""

from __future__ import annotations

import codecs
from dataclasses import dataclass


@dataclass(frozen=True)
class StreamEvent:
    """name: "message" where the stream gave none.  id: the last one that the stream has named."""

    name: str
    id: str
    data: str


class StreamParser:
    """retry_ms: the newest pause that the stream has asked for; None before the first."""

    def __init__(self) -> None:
        self.retry_ms: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._rest = ""
        self._after_return = False
        self._name, self._id = "", ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """The events that are complete by now."""
        text = self._decoder.decode(chunk)
        if self._after_return and text:  # a line's end that was cut between its two characters
            text, self._after_return = text[text.startswith("\n") :], False
        self._after_return = text.endswith("\r")
        lines = (self._rest + text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
        self._rest = lines.pop()
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: str) -> StreamEvent | None:
        if not line:
            event = StreamEvent(self._name or "message", self._id, "\n".join(self._data))
            is_event, self._name, self._data = bool(self._data), "", []
            return event if is_event else None
        field, _, value = line.partition(":")
        value = value[value.startswith(" ") :]
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return None
