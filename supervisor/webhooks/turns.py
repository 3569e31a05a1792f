"""Which webhooks are sent next, if more are due than may be sent at once.  Pure.

Users take turns, and no single address can hold all places: a receiver that hangs holds its places for as long as an
attempt may take, and other receivers must not wait for that.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

MOST_SENDING = 500  # over all hosts
MOST_SENDING_PER_USER = 10
MOST_SENDING_PER_HOST = 40  # many users may name the same backend


@dataclasses.dataclass(frozen=True)
class Due:
    """A due delivery.  host: of its address."""

    id: str
    user: str
    host: str


@dataclasses.dataclass(frozen=True)
class UnderWay:
    """How many deliveries are being sent now, by user and by host."""

    of_user: Mapping[str, int]
    of_host: Mapping[str, int]

    @property
    def number(self) -> int:
        return sum(self.of_user.values())


def host_of(url: str) -> str:
    """The host and port of an address; "" if it has none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def next_to_send(due: Sequence[Due], under_way: UnderWay) -> list[str]:
    """The ids to send now, in this order: each user's first, then each user's second, and so on.

    due: ordered by due time, the oldest first.
    """
    of_user, of_host = Counter(under_way.of_user), Counter(under_way.of_host)
    turns: Counter[str] = Counter()
    by_turn = []
    for place, each in enumerate(due):
        by_turn.append((turns[each.user], place, each))
        turns[each.user] += 1
    room = MOST_SENDING - under_way.number
    chosen: list[str] = []
    for _, _, each in sorted(by_turn, key=lambda turn: turn[:2]):
        if len(chosen) >= room:
            break
        if of_user[each.user] < MOST_SENDING_PER_USER and of_host[each.host] < MOST_SENDING_PER_HOST:
            of_user[each.user] += 1
            of_host[each.host] += 1
            chosen.append(each.id)
    return chosen
