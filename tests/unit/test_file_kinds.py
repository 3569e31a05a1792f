"""The kind of a file by its bytes, its name, and the display of a task's outputs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.media.file_kinds import TEXT, file_kind, media_type_of
from supervisor.media.file_names import plain_name
from supervisor.media.shown_outputs import keys_of_outputs, with_outputs
from supervisor.pictures.media_types import picture_type
from supervisor.store.tasks.results import FIRST_DATA, FIRST_FILE, ResultFile, together

KNOWN = {
    "video/mp4": b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41",
    "video/quicktime": b"\0\0\0\x14ftypqt  \0\0\x02\0qt  ",
    "video/webm": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm",
    "audio/mp4": b"\0\0\0\x20ftypM4A \0\0\x02\0M4A mp42isom\0\0\0\0",
    "audio/mpeg": b"ID3\x03\0\0\0\0\0\x0a",
    "audio/wav": b"RIFF\x24\0\0\0WAVEfmt ",
    "audio/ogg": b"OggS\0\x02",
    "audio/flac": b"fLaC\0\0\0\x22",
    "model/gltf-binary": b"glTF\x02\0\0\0",
    "application/pdf": b"%PDF-1.7\n",
    "application/zip": b"PK\x03\x04\x14\0\0\0",
    "application/json": b'{"a": [1, 2]}',
    "text/plain": "héllo wörld\n".encode(),
}


@pytest.mark.parametrize(("media_type", "head"), KNOWN.items())
def test_a_file_is_known_by_its_bytes_and_its_kind_by_its_ending(media_type: str, head: bytes) -> None:
    kind = file_kind(head + (b"\0" * 40 if b"\0" in head else b""), whole=True)
    assert kind is not None and kind.media_type == media_type
    assert media_type_of(f"results/t/1-1-1.{kind.extension}") == media_type


@pytest.mark.parametrize(
    "content",
    [
        b"<!doctype html><html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<?xml version='1.0'?><svg/>",
        b"hello <script>alert(1)</script>",
        b"  \n<HTML>",
        b"\x7fELF\x02\x01\x01",
        b"MZ\x90\0",
        b"\xff\xfe<\0h\0",
        b"",
        b"   ",
    ],
)
def test_files_that_a_browser_would_run_and_unknown_kinds_are_refused(content: bytes) -> None:
    assert file_kind(content, whole=True) is None


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_looked_at_without_an_error(content: bytes, whole: bool) -> None:
    file_kind(content, whole=whole)


@given(st.text(st.characters()))
def test_a_name_is_one_part_of_a_path_and_fit_for_a_header(given_: str) -> None:
    name = plain_name(given_)
    assert name and len(name) <= 200 and not set(name) & set('/\\"<>|:*?\r\n\0')
    name.encode()


def test_outputs_are_shown_with_links_and_large_data_by_its_link() -> None:
    film = {"media_type": "video/mp4", "bytes": 9, "name": "a.mp4"}
    files = [
        ResultFile(FIRST_DATA, "r/d.json", "0", 0, 0, about={"data": None, "whole": True}),
        ResultFile(FIRST_FILE + 1, "r/2.mp4", "0", 0, 0, about={"file": film, "whole": True}),
        ResultFile(FIRST_FILE, "r/1.mp4", "0", 0, 0, about={"file": film, "whole": True}),
    ]
    found = together(files)
    assert found.images == [] and found.missing_of(3) == 0
    assert list(keys_of_outputs(found.outputs)) == ["r/1.mp4", "r/2.mp4", "r/d.json"]
    shown = with_outputs({"a": 1, "outputs": found.outputs}, "/files/{}".format)
    assert shown == {
        "a": 1,
        "files": [{"url": "/files/r/1.mp4", **film}, {"url": "/files/r/2.mp4", **film}],
        "data": None,
        "data_url": "/files/r/d.json",
    }
    assert with_outputs({"a": 1, "outputs": None}, str) == {"a": 1}, (
        "tasks with pictures alone are shown as before"
    )


def test_pictures_beside_files_are_still_counted() -> None:
    files = [
        ResultFile(0, "r/0.jpg", "0", 4, 3),
        ResultFile(FIRST_FILE, "r/1.mp4", "0", 0, 0, about={"file": {}, "whole": False}),
    ]
    assert together(files).missing_of(3) == 2


BEGINNINGS = ["BMW drivers", "MZ is a name", "ID3 tags", "fLaC is a word", "OggS too", "%PDF is one"]


@pytest.mark.parametrize("begins", BEGINNINGS)
def test_a_text_may_begin_with_the_letters_of_another_format(begins: str) -> None:
    head = (begins + ", read this first.\n" + "More words follow.\n" * 50).encode()
    assert file_kind(head) is TEXT and file_kind(head, whole=True) is TEXT
    assert picture_type(head) is None
    assert file_kind(f"{begins} <script>alert(1)</script>".encode()) is None, "a browser would run it"
