"""The kind of a file by its bytes, never by its declared type: films, sound, models, documents, text.

The library `filetype` knows formats with a signature.  JSON and text have none, so a file is JSON or text if it can be
read as such.  HTML and SVG are refused: a browser would run their scripts.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import NamedTuple

HEAD_BYTES = 8192

UNKNOWN = "application/octet-stream"


class FileKind(NamedTuple):
    """kind: videos, audio or files, the names of inputs and outputs of a type."""

    media_type: str
    extension: str
    kind: str


_KINDS = {
    "video/mp4": FileKind("video/mp4", "mp4", "videos"),
    "video/x-m4v": FileKind("video/mp4", "mp4", "videos"),
    "video/webm": FileKind("video/webm", "webm", "videos"),
    "video/quicktime": FileKind("video/quicktime", "mov", "videos"),
    "audio/mpeg": FileKind("audio/mpeg", "mp3", "audio"),
    "audio/x-wav": FileKind("audio/wav", "wav", "audio"),
    "audio/mp4": FileKind("audio/mp4", "m4a", "audio"),
    "audio/ogg": FileKind("audio/ogg", "ogg", "audio"),
    "audio/x-flac": FileKind("audio/flac", "flac", "audio"),
    "application/pdf": FileKind("application/pdf", "pdf", "files"),
    "application/zip": FileKind("application/zip", "zip", "files"),
}
_GLB = FileKind("model/gltf-binary", "glb", "files")
JSON = FileKind("application/json", "json", "files")
TEXT = FileKind("text/plain", "txt", "files")
ALL = (*dict.fromkeys(_KINDS.values()), _GLB, JSON, TEXT)

_BY_EXTENSION = {each.extension: each.media_type for each in ALL}
_BY_TYPE = {each.media_type: each.kind for each in ALL}
PLAYED = frozenset(each.media_type for each in ALL if each.kind != "files")
_MARKUP = re.compile(rb"<\s*(!doctype|html|head|body|script|svg|\?xml)", re.IGNORECASE)


def kind_of_media_type(media_type: str) -> str:
    """The list of `params` for a file of this type: videos, audio or files."""
    return _BY_TYPE.get(media_type, "files")


def file_kind(head: bytes, *, whole: bool = False) -> FileKind | None:
    """The kind of a file with this beginning; None if such files are not accepted.  whole: `head` is the whole file."""
    import filetype  # type: ignore[import-untyped]  # a few milliseconds, where no file is looked at

    if head[:4] == b"glTF":
        return _GLB
    # Text first: the library takes a text that begins with the letters BM for a picture, one with ID3 for MP3.
    text = None if head[:5] == b"%PDF-" else _as_text(head, whole=whole)
    if text is not None:
        return None if _MARKUP.search(head) else _kind_of_text(text, whole=whole)
    found = filetype.guess(head)
    return None if found is None else _KINDS.get(found.mime)


def media_type_of(name: str) -> str:
    """The media type of one of our files, by the suffix of its name."""
    return _BY_EXTENSION.get(name.rpartition(".")[2], UNKNOWN)


def _as_text(head: bytes, *, whole: bool) -> str | None:
    """What can be read as text; None for anything else, and for nothing at all."""
    try:
        # The end may stand in the middle of a letter.
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return None
    if not text.strip() or any(letter < " " and letter not in "\t\n\r\f" for letter in text):
        return None
    return text


def _kind_of_text(text: str, *, whole: bool) -> FileKind:
    if text.lstrip()[:1] not in ("{", "["):
        return TEXT
    if whole:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return TEXT
    return JSON
