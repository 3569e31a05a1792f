"""The source of an answer's picture: an address, or the answer itself.  Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from supervisor.pictures.media_types import picture_type

_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.-]+=[^;,]*)*)(;base64)?,", re.IGNORECASE)


@dataclass(frozen=True)
class At:
    """Behind an http or https address."""

    address: str


@dataclass(frozen=True)
class Inline:
    """In the answer itself."""

    data: bytes


Source = At | Inline


def source_of(value: Any) -> Source | None:
    """The source in a text of an answer: an address, a data: URI, or base64 of a picture; None for other texts.

    A text that is JSON of such a text counts too.
    """
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text[:1] == '"':
        try:
            text = json.loads(text)
        except ValueError:
            return None
    if re.match(r"https?://", text[:8], re.IGNORECASE):
        return At(text)
    data = _data_uri(text) if text[:5].lower() == "data:" else _base64(text)
    return Inline(data) if data is not None and picture_type(data) is not None else None


def file_source_of(value: Any) -> Source | None:
    """The same for a file that need not be a picture: an address or a data: URI; for a table, its `url`."""
    if isinstance(value, dict):
        value = value.get("url")
    text = value.strip() if isinstance(value, str) else ""
    if re.match(r"https?://", text[:8], re.IGNORECASE):
        return At(text)
    data = _data_uri(text) if text[:5].lower() == "data:" else None
    return Inline(data) if data else None


def data_uri(type_: str, data: bytes) -> str:
    """The data: URI of a file."""
    return f"data:{type_};base64,{base64.b64encode(data).decode()}"


def _data_uri(text: str) -> bytes | None:
    head = _DATA_URI.match(text)
    if head is None:
        return None
    body = text[head.end() :]
    return _base64(body) if head[3] else unquote_to_bytes(body)


def _base64(text: str) -> bytes | None:
    """Either alphabet, with or without line breaks and padding."""
    compact = "".join(text.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
