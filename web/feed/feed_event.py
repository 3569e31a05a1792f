"""Feed events as bytes: pure, so that tests can check every byte.  Standard library only.

A frame is a text/event-stream event (HTML Living Standard, section 9.2).  Data is JSON on one line, so one `data`
field is enough.  Stored documents hold file keys; `link` turns a key into a link when the document is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from supervisor.core.shown_images import shown_images
from supervisor.media.shown_outputs import with_outputs

Link = Callable[[str], str]
Document = Mapping[str, Any]

COMMENT = b":\n\n"  # a sign of life of an idle stream
_EVENT_ID = re.compile(r"([A-Za-z0-9_]{1,64})-(0|[1-9][0-9]{0,17})")


class Change(Protocol):
    """The columns of a change log's row that the encoder needs."""

    @property
    def epoch(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def data_type(self) -> str: ...
    @property
    def queue_type(self) -> str: ...
    @property
    def doc_id(self) -> str: ...
    @property
    def doc(self) -> Document: ...
    @property
    def updated_fields(self) -> Document | None: ...


@dataclass(frozen=True, slots=True)
class EventId:
    """A place in one user's changes: everything up to and including `seq` was seen."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


def parse_event_id(text: str) -> EventId | None:
    """The place in an event id; None if it is not one of ours."""
    match = _EVENT_ID.fullmatch(text)
    return EventId(match[1], int(match[2])) if match else None


def with_links(doc: Document, link: Link) -> dict[str, Any]:
    """The document for clients: images, thumbnails and files have links in place of keys."""
    images = doc.get("images")
    if images:
        doc = {**doc, "images": shown_images(images, link)}
    return with_outputs(doc, link)


def doc_change(change: Change, link: Link) -> dict[str, Any]:
    """One entry of `docChanges`."""
    doc = with_links(change.doc, link)
    entry = {
        "id": change.seq,
        "dataType": change.data_type,
        "queueType": change.queue_type,
        "docId": change.doc_id,
        "doc": doc,
    }
    if change.updated_fields is not None:
        entry["updatedFields"] = with_links(change.updated_fields, link)
    return entry


def snapshot_data(
    kind: Literal["init", "reset"], seq: int, works: Iterable[Document], link: Link
) -> dict[str, Any]:
    """The data of `init` or `reset`.  works: newest first."""
    docs = [with_links(work, link) for work in works]
    entries = [
        {"id": seq, "dataType": "init", "queueType": "init", "docId": doc["_id"], "doc": doc} for doc in docs
    ]
    return {"id": seq, "type": kind, "docChanges": entries, "docs": docs}


def snapshot_frame(
    kind: Literal["init", "reset"], place: EventId, works: Iterable[Document], link: Link
) -> bytes:
    """The first event of a stream that does not resume."""
    return frame(kind, snapshot_data(kind, place.seq, works, link), place)


def change_frame(change: Change, link: Link) -> bytes:
    """One change as one event with exactly one entry."""
    data = {"id": change.seq, "docChanges": [doc_change(change, link)]}
    return frame("change", data, EventId(change.epoch, change.seq))


def bye_frame() -> bytes:
    """The server is about to stop; the client reconnects after `retry`."""
    return frame("bye", {})


def retry_field(milliseconds: int) -> bytes:
    """The first bytes of a stream: the client's wait before it reconnects."""
    return b"retry: %d\n\n" % milliseconds


def frame(event: str, data: Mapping[str, Any], place: EventId | None = None) -> bytes:
    """A complete event; `id` only if the stream can be resumed there."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    head = f"id: {place}\n" if place is not None else ""
    return f"{head}event: {event}\ndata: {text}\n\n".encode()
