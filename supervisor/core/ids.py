"""Identifiers: 26-character ULIDs, which sort by the millisecond of their making."""

from __future__ import annotations

import os
import re
import threading
import time

_OUTSIDE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WEBHOOK_ID = re.compile(r"msg_[A-Za-z0-9_-]{1,64}_[0-9]{1,9}(_[0-9]{1,15})?")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID = re.compile(f"[0-7][{_ALPHABET}]{{25}}")
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


_newest = 0
_lock = threading.Lock()


def new_ulid() -> str:
    """A fresh ULID, 26 characters of Crockford's base 32 (https://github.com/ulid/spec).

    The ids of one process in one millisecond sort in the order of their making (the specification's monotonic ids). The
    step is 64 random bits, so that no id reveals the next one.
    """
    global _newest
    fresh = _random_value(time.time_ns() // 1_000_000)
    with _lock:
        if fresh >> 80 == _newest >> 80:
            fresh = _newest + 1 + int.from_bytes(os.urandom(8))
        _newest = fresh
    return _text(fresh)


def ulid_of(seconds: float) -> str:
    """A fresh ULID for a given moment, in seconds since 1970."""
    return _text(_random_value(int(seconds * 1000)))


def seconds_of_ulid(text: str) -> float | None:
    """The moment of a ULID, in seconds since 1970; None for a text that is not a ULID."""
    if _ULID.fullmatch(text) is None:
        return None
    milliseconds = 0
    for letter in text[:10]:
        milliseconds = milliseconds << 5 | _ALPHABET.index(letter)
    return milliseconds / 1000


def _random_value(milliseconds: int) -> int:
    return milliseconds << 80 | int.from_bytes(os.urandom(10))


def _text(value: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])


def is_task_id(text: str) -> bool:
    """Whether a string may be a task's id: 1-64 characters of A-Z a-z 0-9 _ -."""
    return _OUTSIDE_ID.fullmatch(text) is not None


def is_webhook_id(text: str) -> bool:
    """Whether a string may be a webhook's id: `msg_`, its task's id, and the number of the task's end."""
    return _WEBHOOK_ID.fullmatch(text) is not None
