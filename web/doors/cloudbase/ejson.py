"""Converts MongoDB's Extended JSON of CloudBase's SDKs to plain values and back.  Pure.

A whole number is `{"$numberInt": "3"}`, a time `{"$date": {"$numberLong": "…"}}` in milliseconds since 1970; the
relaxed forms (3, `{"$date": "2027-…Z"}`) are read too.  The server's own time, `db.serverDate()`, is SERVER_TIME.
Source: the specification "MongoDB Extended JSON (v2)"; bson 4.7 is what the SDKs write it with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

MOST_DIGITS = 400  # characters of a number as text; a float can't hold a longer one
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE = re.compile(r"-?\d{1,19}")


class BadEjson(Exception):
    """A value that is not Extended JSON, or of an unsupported kind.  str() is a sentence."""


class _ServerTime:
    """`db.serverDate()`: the time of storing."""

    def __repr__(self) -> str:
        return "SERVER_TIME"


SERVER_TIME: Final = _ServerTime()


def decode(value: Any) -> Any:
    """The value of Extended JSON; operators such as `$in` stay members.  Times are aware, UTC.

    value: parsed JSON, no deeper than the parser's own limit.  Raises BadEjson.
    """
    if isinstance(value, list):
        return [decode(each) for each in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, inner),) = value.items()
        if name in _TYPES:
            return _TYPES[name](inner)
        if name in _REFUSED:
            raise BadEjson(_REFUSED[name])
    return {name: decode(inner) for name, inner in value.items()}


def encode(value: Any) -> Any:
    """Extended JSON for a value, ready for a JSON encoder.  Times must be aware; they are written with milliseconds."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return {"$numberInt" if -(2**31) <= value < 2**31 else "$numberLong": str(value)}
    if isinstance(value, float):
        return {"$numberDouble": repr(value)}
    if isinstance(value, datetime):
        return {"$date": {"$numberLong": str((value - _EPOCH) // timedelta(milliseconds=1))}}
    if isinstance(value, dict):
        return {str(name): encode(inner) for name, inner in value.items()}
    return [encode(each) for each in value]


def _whole(text: Any) -> int:
    if not isinstance(text, str) or not _WHOLE.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        raise BadEjson("A whole number must be text of up to 19 digits.")
    return int(text)


def _double(text: Any) -> float:
    try:
        number = float(text) if isinstance(text, str) and len(text) <= MOST_DIGITS else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadEjson("A number must be finite.")
    return number


def _time(inner: Any) -> datetime:
    try:
        if isinstance(inner, str):
            moment = datetime.fromisoformat(inner)
            if moment.tzinfo is None:
                raise ValueError
            return moment.astimezone(UTC)
        milliseconds = _whole(inner.get("$numberLong")) if isinstance(inner, dict) else inner
        if isinstance(milliseconds, bool) or not isinstance(milliseconds, int):
            raise ValueError
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except (ValueError, OverflowError):
        raise BadEjson("There is no such time.") from None


def _server_time(inner: Any) -> Any:
    offset = decode(inner.get("offset", 0)) if isinstance(inner, dict) else None
    if offset != 0:
        raise BadEjson("serverDate() is taken without an offset only: the server's times are its own.")
    return SERVER_TIME


_TYPES: dict[str, Callable[[Any], Any]] = {
    "$numberInt": _whole,
    "$numberLong": _whole,
    "$numberDouble": _double,
    "$date": _time,
    "$tcb_server_date": _server_time,
}
_REFUSED = {
    "$regularExpression": "A RegExp can't be searched by; compare with =, _.in or a range.",
    "$regex": "A RegExp can't be searched by; compare with =, _.in or a range.",
    "$binary": "Binary data can't be stored in a document; upload a photo with POST /v1/images.",
    "$oid": "An ObjectId names nothing here; ids are text.",
    "$numberDecimal": "A decimal number is not among the kinds that can be stored; give a plain number.",
    "$undefined": "undefined is no value; leave the member out.",
    "$minKey": "MinKey is not among the kinds that can be stored.",
    "$maxKey": "MaxKey is not among the kinds that can be stored.",
    "$timestamp": "Timestamp is not among the kinds that can be stored; give a Date.",
}
