"""A common slip in addresses: a `+` that is not escaped arrives as a space, and the offset of a time is lost."""

from __future__ import annotations

import re

_LOST = re.compile(r".*T\d\d:\d\d\S* \d\d:?\d\d", re.ASCII | re.IGNORECASE)


def advice_on_lost_plus(text: str) -> str:
    """A sentence to add to the refusal of a time; empty unless its offset has a space where its `+` was."""
    return " In an address, the + of an offset is written %2B." if _LOST.fullmatch(text) else ""
