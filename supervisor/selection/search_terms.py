"""The condition of a search as a value: its fields, its comparisons, and how they are joined.  Pure.

`store/searching.py` makes SQL from it.  As in MongoDB, a member without a value is null: `= null` finds it, and so does
every `<>`; no other comparison does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "number", "time"]
How = Literal["=", "<>", "<", "<=", ">", ">="]
Value = str | int | float | None  # a time is text, in the database's form

# The members of documents for searching and sorting, named as in CloudBase's documents.
FIELDS: dict[str, dict[str, Kind]] = {
    "task_queue": {
        "_id": "text",
        "user_openid": "text",
        "type": "text",
        "status": "text",
        "stage": "text",
        "progress": "number",
        "priority": "number",
        "attempt": "number",
        "work_id": "text",
        "created_at": "time",
        "updated_at": "time",
        "processing_started_at": "time",
        "completed_at": "time",
        "failed_at": "time",
        "cancelled_at": "time",
    },
    "works": {
        "_id": "text",
        "task_id": "text",
        "user_openid": "text",
        "type": "text",
        "status": "text",
        "stage": "text",
        "progress": "number",
        "created_at": "time",
        "updated_at": "time",
    },
}
# A search must name one of these by equality: each selects few documents, so no search reads the rows of all users.
ANCHORS = {
    "task_queue": ("_id", "user_openid", "work_id"),
    "works": ("_id", "user_openid", "task_id"),
}


@dataclass(frozen=True)
class Compare:
    """value None is allowed only with `=` and `<>`."""

    field: str
    how: How
    value: Value


@dataclass(frozen=True)
class OneOf:
    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Every:
    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Some:
    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Not:
    part: Condition


Condition = Compare | OneOf | Every | Some | Not


@dataclass(frozen=True)
class Search:
    """order: (field, whether it is descending); documents that are equal in all fields come newest first."""

    collection: str
    condition: Condition
    order: tuple[tuple[str, bool], ...] = ()
    offset: int = 0
    limit: int = 100


def is_anchored(collection: str, condition: Condition) -> bool:
    """Whether the condition names, by equality, one of the fields that select few documents."""
    match condition:
        case Compare(field, "=", value):
            return field in ANCHORS[collection] and value is not None
        case OneOf(field, values):
            return field in ANCHORS[collection] and None not in values
        case Every(parts):
            return any(is_anchored(collection, part) for part in parts)
        case Some(parts):
            return bool(parts) and all(is_anchored(collection, part) for part in parts)
    return False
