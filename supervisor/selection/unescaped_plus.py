"""Advice on a common mistake in addresses: an unescaped `+` arrives as a space, so a time loses its offset.  Pure."""

from __future__ import annotations

import re

_LOST = re.compile(r".*T\d\d:\d\d\S* \d\d:?\d\d", re.ASCII | re.IGNORECASE)


def advice_on_unescaped_plus(text: str) -> str:
    """A sentence to add to the refusal of a time; empty unless its offset has a space where its `+` was."""
    return " In an address, the + of an offset is written %2B." if _LOST.fullmatch(text) else ""
