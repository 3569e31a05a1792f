"""Identifiers: 26-character ULIDs, sortable by the millisecond they were made in."""

from __future__ import annotations

import re

from ulid import ULID

_OUTSIDE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def new_ulid() -> str:
    """A fresh ULID, 26 characters of Crockford's base 32 (https://github.com/ulid/spec)."""
    return str(ULID())


def is_task_id(text: str) -> bool:
    """Whether a string may be a task's id: 1-64 characters of A-Z a-z 0-9 _ -."""
    return _OUTSIDE_ID.fullmatch(text) is not None
