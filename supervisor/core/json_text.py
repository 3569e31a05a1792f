"""JSON as bytes.  Quick for nearly all values; a whole number of more than 64 bits is written too."""

from __future__ import annotations

import json
from typing import Any

import orjson


def json_bytes(value: Any, *, indented: bool = False) -> bytes:
    """The value as JSON.

    PostgreSQL returns 1e20 as a whole number of more than 64 bits, which orjson refuses; then the slower writer of the
    standard library is used.  Raises TypeError for a value that is no JSON.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 if indented else None)
    except TypeError:
        separators = None if indented else (",", ":")
        return json.dumps(
            value, ensure_ascii=False, indent=2 if indented else None, separators=separators, allow_nan=False
        ).encode()
