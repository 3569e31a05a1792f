"""The bytes that a client receives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.feed.feed_event import (
    COMMENT,
    EventId,
    bye_frame,
    change_frame,
    frame,
    parse_event_id,
    retry_field,
    snapshot_frame,
    with_links,
)


@dataclass
class _Change:
    seq: int
    doc: dict[str, Any]
    epoch: str = "ab12"
    data_type: str = "update"
    queue_type: str = "update"
    doc_id: str = "w1"
    updated_fields: dict[str, Any] | None = None


def _link(key: str) -> str:
    return f"/files/{key}?exp=1&sig=s"


def test_a_change_is_one_event_with_exactly_one_entry() -> None:
    change = _Change(7, {"_id": "w1", "stage": "läuft", "images": []}, updated_fields={"stage": "läuft"})
    assert (
        change_frame(change, _link)
        == (
            'id: ab12-7\nevent: change\ndata: {"id":7,"docChanges":[{"id":7,"dataType":"update","queueType":"update",'
            '"docId":"w1","doc":{"_id":"w1","stage":"läuft","images":[]},"updatedFields":{"stage":"läuft"}}]}\n\n'
        ).encode()
    )


def test_a_change_without_updated_fields_does_not_speak_of_them() -> None:
    change = _Change(1, {"_id": "w1", "images": []}, data_type="add", queue_type="enqueue")
    assert change_frame(change, _link) == (
        b'id: ab12-1\nevent: change\ndata: {"id":1,"docChanges":[{"id":1,"dataType":"add","queueType":"enqueue",'
        b'"docId":"w1","doc":{"_id":"w1","images":[]}}]}\n\n'
    )


def test_keys_become_links_in_the_document_and_in_updated_fields() -> None:
    stored = [{"key": "r/1.jpg", "width": 3, "height": 4}]
    change = _Change(2, {"_id": "w1", "images": stored}, updated_fields={"images": stored, "progress": 100})
    entry = json.loads(change_frame(change, _link).split(b"data: ")[1])["docChanges"][0]
    shown = [{"url": "/files/r/1.jpg?exp=1&sig=s", "width": 3, "height": 4, "thumbnail": None}]
    assert entry["doc"]["images"] == shown
    assert entry["updatedFields"] == {"images": shown, "progress": 100}
    assert stored == [{"key": "r/1.jpg", "width": 3, "height": 4}], "the stored document is not touched"


def test_an_empty_init_is_still_an_event() -> None:
    assert snapshot_frame("init", EventId("ab12", 0), [], _link) == (
        b'id: ab12-0\nevent: init\ndata: {"id":0,"type":"init","docChanges":[],"docs":[]}\n\n'
    )


def test_a_snapshot_shows_each_work_as_an_entry_and_as_a_document() -> None:
    works = [{"_id": "w2", "images": []}, {"_id": "w1", "images": []}]
    data = json.loads(snapshot_frame("reset", EventId("ab12", 9), works, _link).split(b"data: ")[1])
    assert data["type"] == "reset" and data["docs"] == works
    assert [
        (each["id"], each["dataType"], each["queueType"], each["docId"]) for each in data["docChanges"]
    ] == [
        (9, "init", "init", "w2"),
        (9, "init", "init", "w1"),
    ]


def test_goodbye_retry_and_comment() -> None:
    assert bye_frame() == b"event: bye\ndata: {}\n\n"
    assert retry_field(1500) == b"retry: 1500\n\n"
    assert COMMENT == b":\n\n"


@given(st.dictionaries(st.text(), st.text()))
def test_no_text_can_break_out_of_its_line(data: dict[str, str]) -> None:
    try:
        encoded = frame("change", data)
    except UnicodeEncodeError:
        return  # lone surrogates can't be in a database
    assert encoded.count(b"\n") == 3 and encoded.endswith(b"\n\n") and b"\r" not in encoded
    assert json.loads(encoded.split(b"data: ", 1)[1]) == data


def test_a_document_without_pictures_is_left_as_it_is() -> None:
    assert with_links({"images": []}, _link) == {"images": []}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "7",
        "ab12",
        "ab12-",
        "-7",
        "ab12-07",
        "ab12--7",
        "ab12-7 ",
        "ab12-7\n",
        "a b-7",
        "ab12-x",
        "a-1-2",
    ],
)
def test_an_unknown_event_id_is_none(text: str) -> None:
    assert parse_event_id(text) is None


@given(st.from_regex(r"[A-Za-z0-9]{1,20}", fullmatch=True), st.integers(0, 10**17))
def test_an_event_id_is_read_as_it_was_written(epoch: str, seq: int) -> None:
    assert parse_event_id(str(EventId(epoch, seq))) == EventId(epoch, seq)
