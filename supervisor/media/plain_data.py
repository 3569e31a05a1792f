"""JSON from an AI service in the form that every database, reader and client takes.  Pure.

It may have been paid for, so what can be kept is kept: a character that PostgreSQL can't store becomes U+FFFD, as in
`darkroom copy`, and a whole number of more than 64 bits becomes the nearest float, as most clients read it.
"""

from __future__ import annotations

import math
import re
from typing import Any

MOST_NESTED = 100  # levels; PostgreSQL, SQLite and our writers of JSON stop at a few hundred
MOST_WHOLE = 2**63
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # NUL, and halves of a surrogate pair
_INSTEAD = "\ufffd"


class NotKept(ValueError):
    """The data can't be kept.  str() says why, to be written after "it holds"."""


def plain_text(text: str) -> str:
    """The text as every database takes it."""
    return _UNSTORABLE.sub(_INSTEAD, text)


def plain_data(data: Any, above: int = 0) -> Any:
    """The data as it is stored.  above: levels that it lies in.  Raises NotKept."""
    match data:
        case None | bool():
            return data
        case str():
            return plain_text(data)
        case int():
            return data if -MOST_WHOLE <= data < MOST_WHOLE else _nearest(data)
        case float() if math.isfinite(data):
            return data
        case float():
            raise NotKept("a number that is not finite")
        case list() | tuple() | dict() if above == MOST_NESTED:
            raise NotKept(f"values nested more than {MOST_NESTED} deep")
        case list() | tuple():
            return [plain_data(each, above + 1) for each in data]
        case dict() if all(isinstance(name, str) for name in data):
            return {plain_text(name): plain_data(each, above + 1) for name, each in data.items()}
    raise NotKept("a value that is no JSON")


def _nearest(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        raise NotKept("a number that is too large") from None
