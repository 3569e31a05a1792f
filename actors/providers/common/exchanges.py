"""Requests to a service and its answers, for people who set up a service: recorded only inside `watching`.

`watching` records the exchanges of its block.  `shape_of` describes the structure of an answer, `picture_paths` the
places of its pictures, `sample_of` the request, each short enough to read; the caller removes secrets before it prints
them.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actors.providers.common.answers import Answer
from actors.providers.common.picture_sources import source_of
from actors.providers.common.requests import Outgoing

MOST_TEXT = 80
MOST_LINES = 40
_LONG = re.compile(r"[A-Za-z0-9+/=_-]{200,}")


@dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    request: Outgoing
    answer: Answer


_WATCHED: contextvars.ContextVar[list[Exchange] | None] = contextvars.ContextVar("exchanges", default=None)


@contextlib.contextmanager
def watching() -> Iterator[list[Exchange]]:
    """The exchanges of the block, as they come."""
    seen: list[Exchange] = []
    token = _WATCHED.set(seen)
    try:
        yield seen
    finally:
        _WATCHED.reset(token)


def note(request: Outgoing, answer: Answer) -> None:
    """Record a service's answer."""
    seen = _WATCHED.get()
    if seen is not None:
        seen.append(Exchange(request, answer))


def shape_of(document: Any) -> list[str]:
    """A line for each place of an answer: its path and its value; lists by their first member."""
    lines: list[str] = []

    def look(value: Any, path: str) -> None:
        if len(lines) >= MOST_LINES:
            return
        if isinstance(value, dict) and value:
            for name, each in value.items():
                look(each, path + _step(str(name)))
        elif isinstance(value, list) and value:
            look(value[0], f"{path}[*]")
        else:
            lines.append(f"{path}: {_said(value)}")

    look(document, "$")
    return lines


def picture_paths(document: Any) -> list[str]:
    """The places of pictures in an answer, as paths for `result`."""
    return list(dict.fromkeys(path for path, value in _texts(document, "$") if source_of(value) is not None))


def sample_of(request: Outgoing) -> dict[str, Any]:
    """The request as JSON, with pictures shortened."""
    sample: dict[str, Any] = {
        "method": request.method,
        "url": request.address,
        "headers": dict(request.headers),
    }
    if request.body is not None:
        sample["body"] = _shortened(json.loads(request.body))
    if request.fields is not None:
        sample["form"] = {
            each.name: f"a file of {len(each.value)} bytes"
            if isinstance(each.value, bytes)
            else _short(each.value)
            for each in request.fields
        }
    return sample


def _texts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _texts(each, path + _step(str(name)))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, f"{path}[*]")
    elif isinstance(value, str):
        yield path, value


def _step(name: str) -> str:
    return f".{name}" if re.fullmatch(r"[A-Za-z_][\w-]*", name) else f"['{name}']"


def _said(value: Any) -> str:
    if isinstance(value, str) and source_of(value) is not None:
        return f"a picture ({len(value)} characters)"
    return _short(json.dumps(value, ensure_ascii=False))


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    if not isinstance(value, str):
        return value
    return _LONG.sub(lambda found: f"{found[0][:20]}…({len(found[0])} characters)", value)


def _short(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}… ({len(text)} characters)"
