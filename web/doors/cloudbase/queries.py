"""The search in a call: where, orderBy, skip, limit and field of CloudBase's SDKs as a `Search`.  Pure.

The values come from `ejson.decode`.  A condition that can't be answered exactly is refused with a sentence and never
ignored, because ignoring it would find too much.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from supervisor.selection.search_terms import (
    ANCHORS,
    FIELDS,
    Compare,
    Condition,
    Every,
    How,
    Not,
    OneOf,
    Search,
    Some,
    Value,
    is_anchored,
)
from web.doors.cloudbase.refusal import Refused

MOST_DOCUMENTS = 1000  # in one answer, as in CloudBase
MOST_SKIPPED = 1_000_000
MOST_COMPARISONS = 100  # in one call; each value of _.in counts
MOST_NESTED = 8
MOST_WHOLE = 2**53  # the largest integer that JavaScript counts exactly
MOST_FIELDS = 50  # of a projection

_COMPARISONS: dict[str, How] = {"$eq": "=", "$ne": "<>", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def search_of(
    collection: str, query: Any, *, order: Any = None, offset: Any = None, limit: Any = None
) -> Search:
    """The search.  query, order: decoded, or None.  Raises Refused."""
    return Search(
        collection,
        condition_of(collection, query),
        _order(collection, order),
        _whole("skip", offset, 0, MOST_SKIPPED, default=0),
        _whole("limit", limit, 1, MOST_DOCUMENTS, default=100),
    )


def condition_of(collection: str, query: Any) -> Condition:
    """The condition of `where` or `doc`; it must name one document, or a user.  Raises Refused."""
    if query is not None and not isinstance(query, Mapping):
        raise Refused("where() takes an object of members and what they must be.")
    condition = _Reader(collection).members(query or {}, 0)
    if not is_anchored(collection, condition):
        anchors = ANCHORS[collection]
        raise Refused(
            f"Say which documents of {collection} are meant, by where({{ {anchors[1]}: … }}) or another equality with "
            f"{', '.join(anchors[:-1])} or {anchors[-1]}: this key is every user's, and nobody means everybody's."
        )
    return condition


def projection_of(given: Any) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The members that `field` selects.  given: decoded, or None.  Raises Refused."""
    if given is None:
        return dict
    if (
        not isinstance(given, Mapping)
        or len(given) > MOST_FIELDS
        or any(isinstance(each, bool) or each not in (0, 1) for each in given.values())
    ):
        raise Refused(
            "field() takes an object of members, each true or false; a part of a member is not taken."
        )
    wanted = {name for name, taken in given.items() if taken}
    unwanted = set(given) - wanted
    if wanted and unwanted - {"_id"}:
        raise Refused("field() names either what is wanted or what is not.")
    if wanted:
        wanted |= {"_id"} - unwanted

    def shown(document: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: value
            for name, value in document.items()
            if (name in wanted if wanted else name not in unwanted)
        }

    return shown


class _Reader:
    """Reads one `where`, and counts its comparisons."""

    def __init__(self, collection: str) -> None:
        self._collection, self._comparisons = collection, 0

    def members(self, query: Mapping[str, Any], depth: int) -> Condition:
        """Every member must hold."""
        parts = [self._member(name, wanted, depth) for name, wanted in query.items()]
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _member(self, name: str, wanted: Any, depth: int) -> Condition:
        if depth >= MOST_NESTED:
            raise Refused(f"Conditions may be nested {MOST_NESTED} deep.")
        if name in ("$and", "$or", "$nor"):
            if (
                not isinstance(wanted, list)
                or not wanted
                or not all(isinstance(each, Mapping) for each in wanted)
            ):
                raise Refused(f"{name} takes a list of conditions.")
            parts = tuple(self.members(each, depth + 1) for each in wanted)
            return Every(parts) if name == "$and" else Some(parts) if name == "$or" else Not(Some(parts))
        if name not in FIELDS[self._collection]:
            raise Refused(
                f"{self._collection} can't be searched by {_shown(name)}; by {', '.join(FIELDS[self._collection])}."
            )
        if isinstance(wanted, Mapping):
            return self._operators(name, wanted, depth)
        return self._compare(name, "=", wanted)

    def _operators(self, field: str, wanted: Mapping[str, Any], depth: int) -> Condition:
        if depth >= MOST_NESTED:
            raise Refused(f"Conditions may be nested {MOST_NESTED} deep.")
        if not wanted:
            raise Refused(f"{field} is no object here; compare it with a value.")
        parts = [self._operator(field, name, value, depth) for name, value in wanted.items()]
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _operator(self, field: str, name: str, value: Any, depth: int) -> Condition:
        if name in _COMPARISONS:
            return self._compare(field, _COMPARISONS[name], value)
        if name in ("$in", "$nin"):
            if not isinstance(value, list):
                raise Refused(f"{name} takes a list.")
            found = OneOf(field, tuple(self._value(field, each) for each in value))
            return found if name == "$in" else Not(found)
        if name == "$exists" and isinstance(value, bool):
            return self._compare(field, "<>" if value else "=", None)
        if name == "$not" and isinstance(value, Mapping):
            return Not(self._operators(field, value, depth + 1))
        raise Refused(
            f"{_shown(name)} is not understood here; there are eq, neq, gt, gte, lt, lte, in, nin, exists, and, or, "
            "not and nor.",
            "DATABASE_INVALID_OPERRATOR",
        )

    def _compare(self, field: str, how: How, value: Any) -> Condition:
        if value is None and how not in ("=", "<>"):
            raise Refused(f"{field} is compared with null by = and <> only.")
        return Compare(field, how, self._value(field, value))

    def _value(self, field: str, value: Any) -> Value:
        """The value in the database's form.  A value of another kind would find nothing there; here it is refused."""
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise Refused(f"A call may compare with at most {MOST_COMPARISONS} values.")
        kind = FIELDS[self._collection][field]
        if value is None:
            return None
        if kind == "text" and isinstance(value, str) and not _UNSTORABLE.search(value):
            return value
        if kind == "number" and isinstance(value, int | float) and _is_exact(value):
            return value
        if kind == "time" and isinstance(value, datetime) and value.year >= 1:
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        what = {"text": "text", "number": "a number", "time": "a Date"}[kind]
        raise Refused(f"{field} is compared with {what}.")


def _is_exact(number: float) -> bool:
    return not isinstance(number, bool) and abs(number) <= MOST_WHOLE


def _order(collection: str, order: Any) -> tuple[tuple[str, bool], ...]:
    if order is None:
        return ()
    if not isinstance(order, Mapping) or any(
        isinstance(each, bool) or each not in (1, -1) for each in order.values()
    ):
        raise Refused("orderBy() takes a member and 'asc' or 'desc'.")
    unknown = next((name for name in order if name not in FIELDS[collection]), None)
    if unknown is not None:
        raise Refused(
            f"{collection} can't be sorted by {_shown(unknown)}; by {', '.join(FIELDS[collection])}."
        )
    return tuple((name, direction == -1) for name, direction in order.items())


def _whole(name: str, value: Any, least: int, most: int, *, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Refused(f"{name} must be a whole number from {least} to {most:,}.")
    return value


def _shown(name: str) -> str:
    return _UNSTORABLE.sub("?", name)[:100]
