"""The price of an order, computed once, at its admission.  Pure, and exact: no floats are added.

    credits = base + ceil(credits × units × product of all `times` whose `where` matches)

A debit keeps its parts: the base, and the units with their number.  If a completed task lacks pictures, the database's
triggers refund floor(unit part × missing ÷ units); if a unit is not a picture, nothing is refunded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

MOST_CREDITS = 1_000_000_000  # of one order


class Times(Protocol):
    """A factor for orders whose parameters have all of these values."""

    @property
    def where(self) -> Mapping[str, Any]: ...

    @property
    def times(self) -> float: ...


class Price(Protocol):
    """As `config.price` declares it."""

    @property
    def base(self) -> int: ...

    @property
    def per(self) -> str: ...

    @property
    def credits(self) -> float: ...

    @property
    def name_of_seconds(self) -> str: ...

    @property
    def by(self) -> Sequence[Times]: ...


class NoPrice(ValueError):
    """The order has no valid price.  member: the wrong member of `parameters`; str() is a sentence."""

    def __init__(self, member: str, sentence: str) -> None:
        super().__init__(sentence)
        self.member = member


@dataclass(frozen=True, slots=True)
class Cost:
    """Credits of an order and their parts: `base`, and the rest for `units` units; `per` names the unit."""

    credits: int
    base: int
    per: str
    units: float

    @property
    def parts(self) -> tuple[int, str, float]:
        """(base, per, units), as a debit keeps them."""
        return self.base, self.per, self.units


NOTHING = Cost(0, 0, "task", 1)


def cost_of(price: Price, *, count: int, parameters: Mapping[str, Any]) -> Cost:
    """The cost of an order.  parameters: with their defaults filled in.  Raises NoPrice."""
    units = _units(price, count, parameters)
    part = _exact(price.credits) * units
    for each in price.by:
        if all(
            name in parameters and _is_same(parameters[name], value) for name, value in each.where.items()
        ):
            part *= _exact(each.times)
    credits = price.base + math.ceil(part)
    if credits > MOST_CREDITS:
        raise NoPrice(price.name_of_seconds, f"This order would cost more than {MOST_CREDITS:,} credits.")
    return Cost(credits, price.base, price.per, float(units))


def _units(price: Price, count: int, parameters: Mapping[str, Any]) -> Fraction:
    match price.per:
        case "picture":
            return Fraction(count)
        case "task":
            return Fraction(1)
    seconds = parameters.get(price.name_of_seconds)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise NoPrice(price.name_of_seconds, "This must be a number of seconds: they are what is paid for.")
    if not 0 <= seconds <= MOST_CREDITS:
        raise NoPrice(price.name_of_seconds, "This must be a number of seconds that can be paid for.")
    return _exact(seconds)


@functools.lru_cache(maxsize=1024)  # prices and lengths are few
def _exact(number: float) -> Fraction:
    """The number as it was written: 0.1 is exactly a tenth."""
    return Fraction(str(number))


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal in JSON: 1 is 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[name], other[name]) for name in one)
    return bool(one == other)
