"""An event stream read in pieces gives the same events for every cut."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from actors.providers.common import event_stream
from actors.providers.common.event_stream import _LINE_END, EventReader, ServerEvent

STREAM = (
    ": a comment\r\nevent: first\r\ndata: 海边 🌊\r\ndata:two\r\n\r\n"
    'data: plain\n\nevent: without data\n\nid: 7\nretry: 5\ndata: {"a": 1}\r\rdata: cut off'
).encode()
EVENTS = [
    ServerEvent("first", "海边 🌊\ntwo"),
    ServerEvent("message", "plain"),
    ServerEvent("message", '{"a": 1}'),
]


@given(st.sets(st.integers(1, len(STREAM) - 1)))
def test_the_events_do_not_depend_on_where_the_stream_is_cut(cuts):
    reader, found = EventReader(), []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        found += list(reader.feed(STREAM[start:end]))
    assert found == EVENTS


def test_a_line_of_many_pieces_is_searched_for_its_end_once(monkeypatch):
    searched = list[int]()

    class Counted:
        def split(self, text: str) -> list[str]:
            searched.append(len(text))
            return _LINE_END.split(text)

    monkeypatch.setattr(event_stream, "_LINE_END", Counted())
    stream, reader = b"data: " + b"A" * 100_000 + b"\n\n", EventReader()
    found = [event for at in range(0, len(stream), 100) for event in reader.feed(stream[at : at + 100])]
    assert found == [ServerEvent("message", "A" * 100_000)]
    assert sum(searched) == len(stream)
