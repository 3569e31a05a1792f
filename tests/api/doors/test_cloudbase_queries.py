"""Searches by CloudBase's where, orderBy, skip, limit and field: answered or refused, the same on each database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.settings import Settings
from supervisor.schema.shared.task_columns import BORN_WITH
from supervisor.selection.search_terms import (
    ANCHORS,
    FIELDS,
    Compare,
    Condition,
    Every,
    Not,
    OneOf,
    Search,
    Some,
    is_anchored,
)
from supervisor.store.tasks import search as searching
from tests.conftest import Store
from web.doors.cloudbase.calls import call_of
from web.doors.cloudbase.documents import task_document, work_document
from web.doors.cloudbase.queries import MOST_COMPARISONS, condition_of, projection_of, search_of
from web.doors.cloudbase.refusal import Refused

MINE = {"user_openid": "o-1"}


def _read(**more: Any) -> Condition:
    return condition_of("task_queue", {**MINE, **more})


def test_each_operator_is_read_as_it_is_meant() -> None:
    mine = Compare("user_openid", "=", "o-1")
    assert condition_of("task_queue", MINE) == mine
    assert _read(progress={"$gt": 5, "$lte": 9.5}) == Every(
        (mine, Every((Compare("progress", ">", 5), Compare("progress", "<=", 9.5))))
    )
    assert _read(status={"$in": ["pending", "failed"]}) == Every(
        (mine, OneOf("status", ("pending", "failed")))
    )
    assert _read(status={"$nin": ["failed"]}) == Every((mine, Not(OneOf("status", ("failed",)))))
    assert _read(completed_at={"$exists": True}) == Every((mine, Compare("completed_at", "<>", None)))
    assert _read(failed_at=None) == Every((mine, Compare("failed_at", "=", None)))
    assert _read(created_at={"$gte": datetime(2027, 1, 1, tzinfo=UTC)}) == Every(
        (mine, Compare("created_at", ">=", "2027-01-01T00:00:00.000Z"))
    )
    assert condition_of("works", {"$or": [{"_id": "w"}, {"task_id": "t"}]}) == Some(
        (Compare("_id", "=", "w"), Compare("task_id", "=", "t"))
    )
    assert _read(status={"$not": {"$eq": "failed"}}) == Every((mine, Not(Compare("status", "=", "failed"))))


@pytest.mark.parametrize(
    "query",
    [
        [],
        {"status": "pending"},
        {"user_openid": None},
        {"user_openid": {"$ne": "o-1"}},
        {"user_openid": {"$in": ["o-1", None]}},
        {"user_openid": {}},
        {"user_openid": 7},
        {"user_openid": "a\x00"},
        {"$or": []},
        {"$or": [MINE, {"status": "failed"}]},
        {"$not": MINE},
        {**MINE, "params.count": 1},
        {**MINE, "progress": "5"},
        {**MINE, "progress": True},
        {**MINE, "progress": 2**60},
        {**MINE, "progress": {"$gt": None}},
        {**MINE, "created_at": "2027-01-01"},
        {**MINE, "status": {"$size": 1}},
        {**MINE, "status": {"$in": "pending"}},
        {**MINE, "status": {"$in": ["a"] * (MOST_COMPARISONS + 1)}},
        {
            **MINE,
            "status": {
                "$not": {"$not": {"$not": {"$not": {"$not": {"$not": {"$not": {"$not": {"$eq": "a"}}}}}}}}
            },
        },
    ],
)
def test_unknown_operators_are_refused_and_never_ignored(query: Any) -> None:
    with pytest.raises(Refused) as refused:
        condition_of("task_queue", query)
    assert str(refused.value).endswith(".")


def test_pages_are_bounded() -> None:
    search = search_of("works", MINE, order={"created_at": -1, "_id": 1}, offset=20, limit=20)
    assert search == Search(
        "works", Compare("user_openid", "=", "o-1"), (("created_at", True), ("_id", False)), 20, 20
    )
    wrong: list[dict[str, Any]] = [
        {"limit": 0}, {"limit": 1001}, {"limit": 1.5}, {"limit": True}, {"offset": -1}, {"offset": 10**7},
        {"order": {"params": 1}}, {"order": {"_id": 2}}, {"order": {"_id": True}}, {"order": "_id"},
    ]  # fmt: skip
    for each in wrong:
        with pytest.raises(Refused):
            search_of("works", MINE, **each)


def test_a_projection_takes_or_leaves_members() -> None:
    document = {"_id": "1", "a": 1, "b": 2}
    assert projection_of(None)(document) == document
    assert projection_of({"a": 1})(document) == {"_id": "1", "a": 1}
    assert projection_of({"a": 1, "_id": 0})(document) == {"a": 1}
    assert projection_of({"a": 0})(document) == {"_id": "1", "b": 2}
    for wrong in ({"a": 1, "b": 0}, {"a": {"$slice": 1}}, {"a": True}, ["a"]):
        with pytest.raises(Refused):
            projection_of(wrong)


def test_every_field_of_a_search_is_a_member_of_its_document(store: Store) -> None:
    store.write(
        lambda tx: tx.execute(
            "INSERT INTO task_queue (user_openid, type, params) VALUES ('o', 'fitting', '{}')"
        )
    )
    (row,) = store.database.read(
        lambda tx: searching.find(tx, Search("task_queue", Compare("user_openid", "=", "o")))
    )
    assert set(FIELDS["task_queue"]) < set(task_document(row, str)) and "status" in BORN_WITH
    work = dict.fromkeys(("images", "error"), None) | dict.fromkeys(
        FIELDS["works"], "2027-01-01T00:00:00.000Z"
    )
    assert set(FIELDS["works"]) <= set(work_document(work, str))


# --- a search finds the same on each database as a plain reading of the rows ---

_ROWS = [
    ("a", "o-1", "photography", 0),
    ("b", "o-1", "fitting", 3),
    ("c", "o-1", "fitting", -2),
    ("d", "o-2", "photography", 3),
]
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "_id": st.sampled_from(["a", "b", "c", "d", "e"]),
    "user_openid": st.sampled_from(["o-1", "o-2", "o-3"]),
    "type": st.sampled_from(["photography", "fitting", "x"]),
    "priority": st.integers(-3, 4) | st.sampled_from([0.5, 2.5]),
    "work_id": st.none() | st.just("w"),
    "completed_at": st.none() | st.just("2027-01-01T00:00:00.000Z"),
    "created_at": st.sampled_from(["2000-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"]),
}


def _compare(field: str) -> st.SearchStrategy[Condition]:
    values = _VALUES[field]
    some = values.filter(lambda value: value is not None)
    return st.one_of(
        st.builds(
            lambda how, value: Compare(field, how, value), st.sampled_from(["=", "<>"]), st.none() | values
        ),
        st.builds(
            lambda how, value: Compare(field, how, value), st.sampled_from(["<", "<=", ">", ">="]), some
        ),
        st.lists(st.none() | values, max_size=3).map(lambda several: OneOf(field, tuple(several))),
    )


_CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    st.sampled_from(sorted(_VALUES)).flatmap(_compare),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: Every(tuple(parts)))
        | st.lists(inner, max_size=3).map(lambda parts: Some(tuple(parts)))
        | inner.map(Not)
    ),
    max_leaves=6,
)


def _holds(condition: Condition, row: dict[str, Any]) -> bool:
    match condition:
        case Compare(field, how, value):
            here = row[field]
            if how in ("=", "<>"):
                return (here == value) is (how == "=")
            if here is None or value is None:
                return False
            return {"<": here < value, "<=": here <= value, ">": here > value, ">=": here >= value}[how]
        case OneOf(field, values):
            return row[field] in values
        case Every(parts):
            return all(_holds(part, row) for part in parts)
        case Some(parts):
            return any(_holds(part, row) for part in parts)
        case Not(part):
            return not _holds(part, row)


def _documents(store: Store) -> list[dict[str, Any]]:
    if not store.value("SELECT count(*) FROM task_queue"):
        for each in _ROWS:
            store.write(
                lambda tx, each=each: tx.execute(
                    "INSERT INTO task_queue (id, user_openid, type, priority, params) VALUES (?, ?, ?, ?, '{}')",
                    *each,
                )
            )
    rows = store.all("SELECT * FROM task_queue")
    return [{**row, "_id": row["id"], "completed_at": None} for row in rows]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(condition=_CONDITIONS, falls=st.booleans(), by=st.sampled_from(["priority", "completed_at", "_id"]))
def test_a_search_finds_what_a_plain_reading_finds(
    store: Store, condition: Condition, falls: bool, by: str
) -> None:
    documents = _documents(store)
    expected = {each["_id"] for each in documents if _holds(condition, each)}
    search = Search("task_queue", condition, ((by, falls),))
    found = store.database.read(lambda tx: searching.find(tx, search))
    assert {row["id"] for row in found} == expected
    assert store.database.read(lambda tx: searching.count(tx, "task_queue", condition)) == len(expected)
    if by != "completed_at":
        key = "id" if by == "_id" else by
        assert [row[key] for row in found] == sorted((row[key] for row in found), reverse=falls)


@given(_CONDITIONS)
def test_an_anchored_search_finds_nothing_without_its_anchor(condition: Condition) -> None:
    if is_anchored("task_queue", condition):
        nobody = dict.fromkeys(FIELDS["task_queue"], "nobody's") | {"priority": 0, "completed_at": None}
        nobody |= dict.fromkeys(ANCHORS["task_queue"], None)
        assert not _holds(condition, nobody)


@pytest.mark.parametrize(
    "body",
    [[], None, "x", 7, {}, {"action": []}, {"action": {}}, {"action": None}, {"action": "database.\0"}],
)
def test_a_body_that_is_no_call_is_refused_with_a_sentence(body: Any) -> None:
    with pytest.raises(Refused, match="database calls"):
        call_of(body, Settings())
