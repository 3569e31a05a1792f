"""Sentences for people, made from a template and values.  Pure.

Values with names that end in `_seconds` are written as spans, `what` in the words of WHAT, None as a dash, and all
others as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WHAT = {
    "streams": "too many open feeds",
    "requests": "too many requests",
    "feed_opened": "feeds opened too often",
    "disk": "waiting for disk space",
    "store": "waiting for the file store",
}


def filled(template: str, values: Mapping[str, Any]) -> str:
    """The template with its values filled in by name."""
    return template.format_map({name: _said(name, value) for name, value in values.items()})


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
