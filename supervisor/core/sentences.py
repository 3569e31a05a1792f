"""Sentences for people, made from a template and values.  Pure.

Values with names that end in `_seconds` are written as spans, `what` in the words of WHAT, None as a dash, and all
others as they are.  `{count|task|tasks}` is the number with the word for one, or for any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

WHAT = {
    "streams": "too many open feeds",
    "requests": "too many requests",
    "feed_opened": "feeds opened too often",
    "disk": "waiting for disk space",
    "store": "waiting for the file store",
}


_PLACE = re.compile(r"\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}")


def filled(template: str, values: Mapping[str, Any]) -> str:
    """The template with its values filled in by name.  Raises KeyError for a name without a value."""

    def said(place: re.Match[str]) -> str:
        name, one, other = place.groups()
        value = values[name]
        return _said(name, value) if one is None else counted(value, one, other)

    return _PLACE.sub(said, template)


def counted(number: float, one: str, other: str = "") -> str:
    """The number with its noun: `1 task`, `2 tasks`.  other: the noun for other numbers, if not `one` and s."""
    return f"{number} {one if number == 1 else other or one + 's'}"


def _said(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name == "what":
        return WHAT[value]
    return _span(float(value)) if name.endswith("_seconds") else str(value)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
