"""Reading an event stream (HTML Living Standard, section 9.2) in pieces.  Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class ServerEvent:
    """name: of its `event:` line, `message` when it has none.  data: its lines joined."""

    name: str
    data: str


class EventReader:
    """Turns the bytes of a stream, in pieces of any size, into events.

    A picture is one line of megabytes, so each byte is searched for the line's end only once.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._begun: list[str] = []  # a line without its end yet
        self._cr = ""
        self._name = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that are complete with this piece."""
        text = self._cr + self._decode(piece)
        self._cr = "\r" if text.endswith("\r") else ""  # it may be the first half of a CRLF
        *ends, begun = _LINE_END.split(text.removesuffix("\r"))
        for end in ends:
            line = "".join([*self._begun, end])
            self._begun.clear()
            event = self._line(line)
            if event is not None:
                yield event
        self._begun.append(begun)

    def _line(self, line: str) -> ServerEvent | None:
        if line == "":
            event = ServerEvent(self._name or "message", "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None
