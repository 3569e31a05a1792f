"""The orders: type, user, interface and time, drawn from the seed like the plan."""

from __future__ import annotations

import dataclasses
import random
import zlib

USERS = tuple(f"user-{number}" for number in range(8))
TYPES = ("portrait", "poster", "sticker")  # all of short work; `sticker` may run only a few at once
HTTP_SHARE = 0.3
PICTURES_SHARE = 0.02  # real pictures by the studio, which take a core for a second
FIRST_AT, LAST_AT = 0.5, 0.9  # seconds; share of the chaos


PRICES = {"poster": (1, 2)}  # {type: (base, credits of a picture)}; of every other 0 and 1


def price_of(type_: str, count: int, missing: int = 0) -> tuple[int, int]:
    """(credits of an order, what is given back where so many of its pictures are missing)."""
    base, each = PRICES.get(type_, (0, 1))
    return base + each * count, each * missing


def left_out(name: str, count: int) -> int:
    """How many pictures of an order its service never makes, however often it is asked: of every third, the last."""
    return int(count > 1 and zlib.crc32(name.encode()) % 3 == 0)


@dataclasses.dataclass(frozen=True)
class Order:
    """One task to be made.  name: its id where SQL lets us choose one, and its `prompt` everywhere."""

    name: str
    user: str
    type: str
    count: int
    priority: int
    by_http: bool
    at: float


def orders(seed: int, tasks: int, seconds: float, poison: int = 0) -> tuple[Order, ...]:
    """As many orders, spread over most of the chaos.  poison: how many of them kill the worker that opens them."""
    draw = random.Random(f"darkroom orders {seed}")
    made = []
    for number in range(tasks):
        type_ = "photography" if draw.random() < PICTURES_SHARE else draw.choice(TYPES)
        by_http = draw.random() < HTTP_SHARE
        made.append(
            Order(
                name=f"chaos-{seed}-{number}",
                user=draw.choice(USERS),
                type=type_,
                count=draw.choice((1, 1, 1, 2, 3)) if type_ != "photography" else 1,
                priority=0 if by_http else draw.choice((-2, 0, 0, 0, 3)),
                by_http=by_http,
                at=round(draw.uniform(FIRST_AT, LAST_AT * seconds), 3),
            )
        )
    for number in draw.sample(range(tasks), min(poison, tasks)):
        made[number] = dataclasses.replace(made[number], type="poison", count=1, by_http=False, priority=0)
    return tuple(sorted(made, key=lambda order: order.at))
