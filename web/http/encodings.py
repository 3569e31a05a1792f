"""The encodings that a client accepts (RFC 9110, section 12.5.3).  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_CODING = re.compile(r"\s*([^\s;,]+)\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?", re.IGNORECASE)
_OTHER_NAMES = {"x-gzip": "gzip"}


def chosen_encoding(fields: Iterable[str], ours: Sequence[str]) -> str:
    """The first of our encodings that `Accept-Encoding` allows, by its name or as `*`; "" for none: send it plain.

    fields: each value of the header.  ours: the best first.
    """
    weights = dict[str, float]()
    for coding in ",".join(fields).split(","):
        found = _CODING.fullmatch(coding)
        if found:
            name = found[1].lower()
            weights[_OTHER_NAMES.get(name, name)] = _weight(found[2])
    return next((each for each in ours if weights.get(each, weights.get("*", 0.0)) > 0), "")


def _weight(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0
