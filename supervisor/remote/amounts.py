"""The reported cost of an AI service's work: a number as the service wrote it, and exact sums of such numbers.  Pure.

An amount is decimal text.  It is never converted to a float, and amounts of different units are never added.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import Any

MOST_CHARACTERS = 40
NANOS = 1_000_000_000  # metrics count whole billionths, which floats add up exactly
_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,24})?([eE][+-]?[0-3]?[0-9])?")
_EXACT = Context(prec=200)


def amount_of(value: Any) -> str | None:
    """The amount in a member of an answer, as it was written; None for other values: below 0, not finite, words.

    A float becomes the shortest number that it may have been written as.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    text = repr(value) if isinstance(value, float) else str(value).strip()
    return text if len(text) <= MOST_CHARACTERS and _AMOUNT.fullmatch(text) else None


def plus(total: Decimal, amount: str, times: int = 1) -> Decimal:
    """The total with an amount added so many times, exactly."""
    return _EXACT.add(total, _EXACT.multiply(Decimal(amount), Decimal(times)))


def plain(total: Decimal) -> str:
    """For people and JSON: no exponent, no zeros at the end."""
    text = format(total, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def nanos(amount: str) -> int:
    """Whole billionths of its unit, rounded."""
    return round(_EXACT.multiply(Decimal(amount), Decimal(NANOS)))
