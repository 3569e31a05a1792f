"""The encodings that a client accepts (RFC 9110, section 12.5.3).  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CODING = re.compile(r"\s*([^\s;,]+)\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?", re.IGNORECASE)


def takes_gzip(fields: Iterable[str]) -> bool:
    """Whether `Accept-Encoding` allows gzip, by its name or as `*`.  fields: each value of the header."""
    weights = dict[str, float]()
    for coding in ",".join(fields).split(","):
        found = _CODING.fullmatch(coding)
        if found:
            weights[found[1].lower()] = _weight(found[2])
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def _weight(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0
