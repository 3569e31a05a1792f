"""A parsed call of the SDKs: one value for each kind of call.  Pure, and the only slow part.

Checking a large body takes milliseconds, so it is done where bodies are parsed; the result is ready for the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from config.settings import Settings
from supervisor.selection.search_terms import FIELDS, Condition, Search
from web.doors.cloudbase.ejson import BadEjson, decode
from web.doors.cloudbase.orders import Order, Wanted, order_of, status_of
from web.doors.cloudbase.queries import condition_of, projection_of, search_of
from web.doors.cloudbase.refusal import NO_SUCH_COLLECTION, Refused
from web.handling.request_bodies import parse_json
from web.http.problems import Problem

Projection = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Add:
    order: Order


@dataclass(frozen=True)
class Get:
    search: Search
    projection: Projection


@dataclass(frozen=True)
class Count:
    collection: str
    condition: Condition


@dataclass(frozen=True)
class Update:
    """Of tasks."""

    condition: Condition
    status: Wanted


@dataclass(frozen=True)
class Remove:
    """Of works."""

    condition: Condition


Call = Add | Get | Count | Update | Remove

_OTHERWISE = {
    "database.aggregateDocuments": "aggregate() is not offered; use where(…).get() or where(…).count().",
    "database.startTransaction": "Transactions are not offered, and not needed: each add, update and remove is one.",
    "database.commitTransaction": "Transactions are not offered; there is none to commit.",
    "database.abortTransaction": "Transactions are not offered; there is none to roll back.",
    "database.getInTransaction": "Transactions are not offered; use doc(…).get().",
    "database.updateDocInTransaction": "Transactions are not offered; use doc(…).update({ status: … }).",
    "database.deleteDocInTransaction": "Transactions are not offered; use doc(…).remove() of a work.",
    "database.insertDocInTransaction": "Transactions are not offered; use collection('task_queue').add(…).",
    "database.modifyAndReturnDoc": "updateAndReturn() is not offered; use update(…), then get().",
    "database.addCollection": "Collections can't be made here; there are task_queue and works.",
}
_BY_GROUP = {
    "storage": "Files of the cloud's storage are not kept here: take getTempFileURL() of the cloud itself and hand its "
    "https link in as params.images, or upload the photo with POST /v1/images.",
    "functions": "Functions run in the cloud: call them through an SDK that was not given this serviceUrl.",
    "database": "The database calls here are add, get, count, update and remove of task_queue and works.",
}
_ANYTHING = (
    "Only database calls are answered here: add, get, count, update and remove of task_queue and works."
)


def call_of(body: Any, settings: Settings) -> Call:
    """The parsed call.  body: the request's JSON value, with a valid signature.  Raises Refused, BadTask, a Problem."""
    try:
        return _call_of(body, settings)
    except BadEjson as bad:
        raise Refused(str(bad)) from None


def _call_of(body: Any, settings: Settings) -> Call:
    action = body.get("action") if isinstance(body, dict) else None
    if not isinstance(action, str) or action not in _ACTIONS:
        group = action.partition(".")[0] if isinstance(action, str) else ""
        raise Refused(_OTHERWISE.get(str(action), _BY_GROUP.get(group, _ANYTHING)))
    collection = body.get("collectionName")
    if not isinstance(collection, str) or collection not in FIELDS:
        raise Refused(
            "There are the collections task_queue, to order and to look, and works, to look and to remove; anything "
            "else stays in the cloud's own database, through an SDK that was not given this serviceUrl.",
            NO_SUCH_COLLECTION,
        )
    if body.get("transactionId"):
        raise Refused(_OTHERWISE["database.startTransaction"])
    return _ACTIONS[action](collection, body, settings)


def _add(collection: str, body: Mapping[str, Any], settings: Settings) -> Call:
    if collection != "task_queue":
        raise Refused("A work is made by its task: use collection('task_queue').add(…).")
    documents = body.get("data")
    if not isinstance(documents, list) or len(documents) != 1:
        raise Refused("add() takes one document at a time.")
    return Add(order_of(_ejson("add() takes a document.", documents[0]), settings))


def _get(collection: str, body: Mapping[str, Any], settings: Settings) -> Call:
    search = search_of(
        collection,
        _query(body),
        order=_optional(body, "order"),
        offset=body.get("offset"),
        limit=body.get("limit"),
    )
    return Get(search, projection_of(_optional(body, "projection")))


def _count(collection: str, body: Mapping[str, Any], settings: Settings) -> Call:
    return Count(collection, condition_of(collection, _query(body)))


def _update(collection: str, body: Mapping[str, Any], settings: Settings) -> Call:
    if collection != "task_queue":
        raise Refused("A work is changed by its task alone; use remove() to delete it.")
    if body.get("merge") is not True or body.get("upsert"):
        raise Refused(
            "set() is not offered; use add(…) for an order and update({ status: 'cancelled' }) to end it."
        )
    status = status_of(_ejson("update() takes an object.", body.get("data")))
    return Update(condition_of(collection, _query(body)), status)


def _remove(collection: str, body: Mapping[str, Any], settings: Settings) -> Call:
    if collection != "works":
        raise Refused(
            "A task is kept as the proof of what was paid; remove its work, or cancel it by update({ status: "
            "'cancelled' })."
        )
    return Remove(condition_of(collection, _query(body)))


_ACTIONS: dict[str, Callable[[str, Mapping[str, Any], Settings], Call]] = {
    "database.insertDocument": _add,
    "database.getDocument": _get,
    "database.calculateDocument": _count,
    "database.modifyDocument": _update,
    "database.removeDocument": _remove,
}


def _query(body: Mapping[str, Any]) -> Any:
    return _optional(body, "query")


def _optional(body: Mapping[str, Any], name: str) -> Any:
    """A member with Extended JSON as text; None if it was not given."""
    text = body.get(name)
    return None if text in (None, "") else _ejson(f"{name} must be Extended JSON.", text)


def _ejson(otherwise: str, text: Any) -> Any:
    if not isinstance(text, str):
        raise Refused(otherwise)
    try:
        return decode(parse_json(text.encode("utf-8", "surrogatepass")))
    except Problem as problem:
        raise Refused(problem.detail if problem.status != 400 else otherwise) from None
