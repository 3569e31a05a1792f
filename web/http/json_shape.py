"""The number of values in a JSON text, and its depth, before it is parsed.  Pure.

They are counted in the text itself, in a few passes that cost far less than a parser: text between quotation marks is
removed; then every value except the first has a comma or an opening bracket before it (a list or an object often has
both, and counts as two).
"""

from __future__ import annotations

import re

MOST_VALUES = 10_000
MOST_DEPTH = 100  # `parameters` may be 64 deep, and has its own error for that

_BRACKETS = re.compile(r"[\[\]{}]")


def shape_fault(text: str) -> str | None:
    """A sentence about a text that holds too much; None if it may be parsed.  It need not be JSON.

    Raises ValueError if it can't be JSON.
    """
    opened = text.count("[") + text.count("{")
    if opened <= MOST_DEPTH and opened + text.count(",") <= MOST_VALUES:
        return None  # including those inside text
    too_many = f"The body holds more than {MOST_VALUES:,} values (a list or an object counts as two)."
    unescaped = text.replace("\\\\", "").replace('\\"', "")
    if unescaped.count('"') > 4 * MOST_VALUES:  # a member has four: of its name, and of its text
        return too_many
    bare = "".join(unescaped.split('"')[::2])
    opened = bare.count("[") + bare.count("{")
    if opened != bare.count("]") + bare.count("}"):
        raise ValueError("brackets without their other half")
    if opened + bare.count(",") > MOST_VALUES:
        return too_many
    if opened > MOST_DEPTH and _depth(bare) > MOST_DEPTH:
        return f"The body holds values nested more than {MOST_DEPTH} deep."
    return None


def _depth(bare: str) -> int:
    depth = deepest = 0
    for bracket in _BRACKETS.finditer(bare):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > deepest:
            deepest = depth
    return deepest
