"""Work created with plain SQL: a sqlite3 connection with no pragma and no function of ours."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from supervisor.store import admission, claims, dispatching, tasks, works
from supervisor.store.claims import Claim
from tests.conftest import Clock, Store

PARAMS = '{"images":["https://example.org/person.jpg"]}'
INSERT = (
    "INSERT INTO task_queue (user_openid, type, params{more}) VALUES ('o-1', 'photography', :params{values})"
)
VERBS = ["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE", "INSERT OR FAIL", "INSERT OR ROLLBACK", "REPLACE"]
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def _insert(producer: sqlite3.Connection, verb: str = "INSERT", **columns: Any) -> str:
    """The id of a row written with these columns besides the usual ones."""
    given = {"user_openid": "o-1", "type": "photography", "params": PARAMS} | columns
    names, marks = ", ".join(given), ", ".join(f":{name}" for name in given)
    (task_id,) = producer.execute(
        f"{verb} INTO task_queue ({names}) VALUES ({marks}) RETURNING id", given
    ).fetchone()
    return str(task_id)


def test_three_columns_are_enough(producer: sqlite3.Connection, store: Store) -> None:
    producer.execute(INSERT.format(more="", values=""), {"params": PARAMS})
    (row,) = store.all("SELECT * FROM task_queue")
    assert ULID.fullmatch(row["id"])
    assert (row["status"], row["progress"], row["charge"], row["attempt"], row["lease"]) == (
        "pending",
        0,
        1,
        0,
        0,
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["created_at"])
    assert abs(datetime.fromisoformat(row["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert store.value("SELECT 1 FROM account WHERE user_openid = 'o-1'") == 1


def test_ids_are_ulids_made_by_the_database_alone_and_never_twice(producer: sqlite3.Connection) -> None:
    producer.execute(
        """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
            INSERT INTO task_queue (user_openid, type, params) SELECT 'o-1', 'photography', '{}' FROM n"""
    )
    ids = [row[0] for row in producer.execute("SELECT id FROM task_queue ORDER BY rowid")]
    assert len(set(ids)) == 2000 and all(ULID.fullmatch(each) for each in ids)
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    milliseconds = 0
    for character in ids[0][:10]:
        milliseconds = milliseconds * 32 + alphabet.index(character)
    assert abs(milliseconds / 1000 - datetime.now(UTC).timestamp()) < 60


def test_an_admitted_row_has_a_work_and_is_as_good_as_one_from_http(
    producer: sqlite3.Connection, store: Store, live_worker: Callable[..., str]
) -> None:
    live_worker()
    task_id = _insert(producer)
    assert store.admit_waiting() == 1 and store.admit_waiting() == 0
    assert store.work(task_id)["status"] == "pending"
    assert [hint.task_id for hint in store.dispatch()] == [task_id]


@pytest.mark.parametrize("task_id", ["a", "A-Z_09", "x" * 64, "0", "-"])
def test_an_id_from_outside_may_be_any_string_of_the_alphabet(
    task_id: str, producer: sqlite3.Connection, store: Store
) -> None:
    assert _insert(producer, id=task_id) == task_id
    store.admit_waiting()
    assert store.task(task_id)["status"] == "pending"


@pytest.mark.parametrize(
    "task_id", ["", "x" * 65, "a b", "a/b", "ä", "a.b", "a'b", "a\n", "abc\0", "abc\0/../x", b"abc", None]
)
def test_an_id_outside_the_alphabet_is_refused(
    task_id: object, producer: sqlite3.Connection, store: Store
) -> None:
    for verb in VERBS:
        with pytest.raises(sqlite3.IntegrityError, match="id must be 1-64 characters"):
            _insert(producer, verb, id=task_id)
    assert store.value("SELECT count(*) FROM task_queue") == 0


@pytest.mark.parametrize(
    "params",
    [
        "[]", "null", '"text"', "1", "", "{", "{'images':[]}", "not json", PARAMS + "x", PARAMS + "\0", PARAMS + "\0x",
        PARAMS.encode(), None, 7,
    ],
)  # fmt: skip
def test_params_that_are_no_json_object_are_refused(
    params: object, producer: sqlite3.Connection, store: Store
) -> None:
    for verb in VERBS:
        with pytest.raises(sqlite3.IntegrityError, match="params must be a JSON object"):
            _insert(producer, verb, params=params)
    assert store.value("SELECT count(*) FROM task_queue") == 0


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("user_openid", ""), ("user_openid", "x" * 129), ("user_openid", None), ("user_openid", b"o-1"),
        ("user_openid", "o\0-1"), ("type", ""), ("type", "x" * 65), ("type", None), ("type", "photography\0"),
        ("priority", 11), ("priority", -11), ("priority", 1.5), ("priority", "high"), ("priority", None),
    ],
)  # fmt: skip
def test_writable_columns_have_bounds(
    column: str, value: object, producer: sqlite3.Connection, store: Store
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=column):
        _insert(producer, "INSERT OR REPLACE", **{column: value})
    assert store.value("SELECT count(*) FROM task_queue") == 0


WRITABLE = {"id", "user_openid", "type", "status", "params", "priority", "run_after"}


def test_no_column_but_the_writable_ones_can_be_given(producer: sqlite3.Connection, store: Store) -> None:
    columns = [row["name"] for row in store.all("SELECT name FROM pragma_table_info('task_queue')")]
    assert set(columns) > WRITABLE
    for verb in VERBS:
        for column in set(columns) - WRITABLE:
            with pytest.raises(sqlite3.IntegrityError, match=f"{column} is set by Darkroom"):
                _insert(producer, verb, **{column: 7})
        for status in ("processing", "completed", "failed", "", None):
            with pytest.raises(sqlite3.IntegrityError, match="status may be given at insert only as pending"):
                _insert(producer, verb, status=status)
    assert store.value("SELECT count(*) FROM task_queue") == 0
    for verb in VERBS:
        _insert(producer, verb, status="pending")
    assert store.value("SELECT count(*) FROM task_queue") == len(VERBS)


# --- nobody takes the place of a row that is there ---


def _everything(store: Store) -> list[list[dict[str, Any]]]:
    tables = ("task_queue", "works", "credit_entry", "work_change")
    return [
        *(store.all(f"SELECT rowid, * FROM {table}") for table in tables),
        store.all("SELECT * FROM account"),
    ]


def test_an_existing_task_is_never_replaced(
    producer: sqlite3.Connection, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    before = _everything(store)
    rowid = store.value("SELECT rowid FROM task_queue WHERE id = ?", claim.task_id)
    for verb in VERBS:
        with pytest.raises(sqlite3.IntegrityError, match="a task with this id exists already"):
            _insert(producer, verb, id=claim.task_id)
        with pytest.raises(sqlite3.IntegrityError, match="a task with this rowid exists already"):
            _insert(producer, verb, rowid=rowid)
        with pytest.raises(sqlite3.IntegrityError, match="work_id is set by Darkroom"):
            _insert(producer, verb, work_id=store.task(claim.task_id)["work_id"])
        assert _everything(store) == before


@pytest.mark.parametrize("rowid", [-1, -7, 0])
def test_no_task_has_a_rowid_that_a_trigger_could_not_see(rowid: int, producer: sqlite3.Connection) -> None:
    """In a BEFORE trigger a rowid that is not given reads as -1."""
    with pytest.raises(sqlite3.IntegrityError, match="rowid of a task is above 0"):
        _insert(producer, "INSERT OR REPLACE", rowid=rowid)
    _insert(producer)


@pytest.mark.parametrize(
    "clause",
    [
        "ON CONFLICT (id) DO UPDATE SET status = 'completed', progress = 100, finished_at = 'x'",
        "ON CONFLICT (id) DO UPDATE SET user_openid = 'thief'",
        "ON CONFLICT DO NOTHING",
        "ON CONFLICT (id) DO UPDATE SET params = excluded.params",
    ],
)
def test_an_upsert_changes_no_task(
    clause: str, producer: sqlite3.Connection, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    before = _everything(store)
    with pytest.raises(sqlite3.IntegrityError, match="exists already"):
        producer.execute(
            f"INSERT INTO task_queue (id, user_openid, type, params) VALUES (?, 'o-2', 'fitting', ?) {clause}",
            (claim.task_id, PARAMS),
        )
    assert _everything(store) == before


@pytest.mark.parametrize("places", ["id", "task_id", "rowid", "id, task_id, rowid"])
def test_an_existing_work_is_never_replaced_and_none_is_made_by_hand(
    places: str, producer: sqlite3.Connection, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claimed_task()
    before = _everything(store)
    columns = ["id", "task_id", *(["rowid"] if "rowid" in places else [])]
    values = [each if each in places else "'other'" for each in columns]
    for verb in VERBS:
        with pytest.raises(sqlite3.IntegrityError, match="a work is made by the admission"):
            producer.execute(
                f"""{verb} INTO works ({", ".join(columns)}, user_openid, type, status, stage, progress)
                    SELECT {", ".join(values)}, 'thief', type, status, stage, progress FROM works"""
            )
        assert _everything(store) == before


@pytest.mark.parametrize("column", ["id", "task_id", "user_openid", "type", "created_at", "rowid"])
def test_a_work_keeps_its_owner_and_its_task(
    column: str, producer: sqlite3.Connection, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    first, second = claimed_task("o-1"), claimed_task("o-2")
    before = _everything(store)
    suffix = "'x'" if column in ("type", "created_at") else "''"  # else the other work's own value
    for verb in ("UPDATE", "UPDATE OR REPLACE", "UPDATE OR IGNORE"):
        with pytest.raises(sqlite3.IntegrityError, match="of a work can not change"):
            producer.execute(
                f"""{verb} works SET {column} = (SELECT {column} || {suffix} FROM works WHERE task_id = ?)
                    WHERE task_id = ?""",
                (second.task_id, first.task_id),
            )
        assert _everything(store) == before


def test_an_id_that_the_ledger_knows_is_not_given_again(
    producer: sqlite3.Connection, store: Store, cancelled_task: Callable[..., str]
) -> None:
    """Its charge 1 is paid and refunded already: a second task of that name could never be admitted."""
    task_id = cancelled_task()
    producer.execute("DELETE FROM task_queue WHERE id = ?", (task_id,))
    with pytest.raises(sqlite3.IntegrityError, match="existed before"):
        _insert(producer, id=task_id)


# --- times ---


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("2027-01-31T09:00:00.000Z", "2027-01-31T09:00:00.000Z"),
        ("2027-01-31T09:00:00Z", "2027-01-31T09:00:00.000Z"),
        ("2027-01-31 09:00:00", "2027-01-31T09:00:00.000Z"),
        ("2027-01-31T09:00", "2027-01-31T09:00:00.000Z"),
        ("2027-01-31", "2027-01-31T00:00:00.000Z"),
        ("2027-01-31T09:00:00+08:00", "2027-01-31T01:00:00.000Z"),
        ("2027-01-01T00:30:00.250+01:00", "2026-12-31T23:30:00.250Z"),
        ("2027-01-31T09:00:00-03:30", "2027-01-31T12:30:00.000Z"),
    ],
)
def test_run_after_is_normalised_with_its_offset(
    given: str, stored: str, producer: sqlite3.Connection, store: Store
) -> None:
    assert store.task(_insert(producer, run_after=given))["run_after"] == stored


@pytest.mark.parametrize(
    "given",
    ["now", "tomorrow", "", "2027-13-01", "2027-01-32", "2027-01-31T25:00:00Z", "31.01.2027", "1800000000", 0,
     1800000000, 2459000.5, "2027-01-31T09:00:00 o'clock", b"2027-01-31"],
)  # fmt: skip
def test_a_run_after_that_is_no_time_is_refused(given: object, producer: sqlite3.Connection) -> None:
    for verb in VERBS:
        with pytest.raises(sqlite3.IntegrityError, match="run_after must be a time such as"):
            _insert(producer, verb, run_after=given)


def test_a_task_waits_for_its_run_after_by_the_databases_clock(
    producer: sqlite3.Connection, store: Store, clock: Clock, live_worker: Callable[..., str]
) -> None:
    live_worker()
    at = (clock.now() + timedelta(hours=1)).astimezone(UTC).isoformat()
    task_id = _insert(producer, run_after=at)
    store.admit_waiting()
    assert store.dispatch() == []
    row = store.task(task_id)
    assert store.write(lambda tx: claims.claim(tx, task_id, row["dispatch"], "worker-1", 9)) is None
    clock.advance(3601)
    store.write(dispatching.ripen)
    (hint,) = store.dispatch()
    assert store.claim(hint, "worker-1") is not None


# --- accepted at the door, failed at admission, never a stone in the dispatcher's way ---


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"type": "sculpture"}, "unknown_type"),
        ({"params": "{}"}, "bad_params"),
        ({"params": '{"images":[]}'}, "bad_params"),
        ({"params": '{"images":["https://example.org/p.jpg"],"sceneId":"moon"}'}, "bad_params"),
        ({"params": '{"images":["https://example.org/p.jpg"],"count":"2"}'}, "bad_params"),
        ({"params": '{"images":["https://example.org/p.jpg"],"size":2}'}, "bad_params"),
        ({"params": '{"images":["nobodys-upload"]}'}, "image_not_found"),
        ({"params": '{"images":["\\ud800"],"\\udfff":1}'}, "bad_params"),
        ({"params": '{"images":["https://example.org/p.jpg"],"count":101}'}, "bad_params"),
        ({"params": '{"parameters":' + "[" * 900 + "]" * 900 + "}"}, "bad_params"),
        ({"params": '{"parameters":' + '{"a":' * 1400 + "1" + "}" * 1400 + "}"}, "bad_params"),
        ({"params": '{"count":' + "1" * 5000 + "}"}, "bad_params"),
        ({"params": '{"images":["https://example.org/p.jpg"],"count":1e999}'}, "bad_params"),
    ],
)
def test_a_bad_order_is_accepted_and_fails_at_admission_with_its_code(
    columns: dict[str, Any], code: str, producer: sqlite3.Connection, store: Store
) -> None:
    try:
        task_id = _insert(producer, **columns)
    except sqlite3.IntegrityError as refused:  # newer SQLite has a lower limit of depth
        assert "params must be a JSON object" in str(refused) and len(columns["params"]) > 1000
        return
    store.admit_waiting()
    row, work = store.task(task_id), store.work(task_id)
    assert (row["status"], work["status"]) == ("failed", "failed")
    assert json.loads(work["error"])["code"] == code and json.loads(work["error"])["message"]
    assert store.entries(task_id) == []
    view = store.database.read(lambda tx: tasks.get(tx, task_id))
    assert view is not None and view["error"]["code"] == code


def test_no_row_stops_the_admission_of_the_others(producer: sqlite3.Connection, store: Store) -> None:
    """Text that is not UTF-8, JSON that only SQLite takes: each fails its own row."""
    _insert(producer, user_openid="a", params='{"count":' + "9" * 5000 + "}")
    for statement in (
        "INSERT INTO task_queue (user_openid, type, params) VALUES ('b', 'photography', CAST(:x AS TEXT))",
        "INSERT INTO task_queue (user_openid, type, params) VALUES (CAST(x'62ff' AS TEXT), 'photography', :good)",
        "INSERT INTO task_queue (user_openid, type, params) VALUES ('c', CAST(x'70fe' AS TEXT), :good)",
    ):
        producer.execute(statement, {"x": b'{"prompt":"\xff\xfe","images":["x"]}', "good": PARAMS})
    good = _insert(producer, user_openid="z")
    assert store.admit_waiting() == 5
    statuses = [row["status"] for row in store.all("SELECT status FROM task_queue ORDER BY rowid")]
    assert statuses == ["failed"] * 4 + ["pending"]
    assert store.task(good)["admitted_charge"] == 1
    assert store.admit_waiting() == 0
    assert len(store.all("SELECT * FROM works")) == 5


def test_admission_goes_by_users_in_sorted_order(producer: sqlite3.Connection, store: Store) -> None:
    for user in ("c", "a", "b", "a"):
        _insert(producer, user_openid=user)
    assert store.write(lambda tx: admission.admit_waiting(tx, store.settings, 3)) == 3
    rows = store.all("SELECT user_openid FROM work_change ORDER BY log_id")
    assert [row["user_openid"] for row in rows] == ["a", "a", "b"]


# --- the manual retry ---


@pytest.mark.parametrize("verb", ["UPDATE", "UPDATE OR REPLACE", "UPDATE OR IGNORE"])
def test_a_retry_by_sql_starts_anew_and_keeps_lease_and_attempt(
    verb: str, failed_task: Callable[..., str], producer: sqlite3.Connection, store: Store
) -> None:
    task_id = failed_task()
    before = store.task(task_id)
    assert before["lease"] == before["attempt"] == before["failures"] == 1
    producer.execute(
        f"{verb} task_queue SET status = 'pending', run_after = '2099-01-01', stage = 'x' WHERE id = ?",
        (task_id,),
    )
    row = store.task(task_id)
    kept = {column: row[column] for column in ("lease", "attempt", "work_id", "created_at")}
    assert kept == {column: before[column] for column in kept}
    assert (row["charge"], row["admitted_charge"], row["dispatch"]) == (2, 1, before["dispatch"] + 1)
    assert (row["failures"], row["deaths"], row["progress"], row["stage"]) == (0, 0, 0, "queued")
    for column in (
        "error",
        "images",
        "worker_id",
        "deadline_at",
        "dispatched_at",
        "run_after",
        "finished_at",
    ):
        assert row[column] is None, column
    work = store.work(task_id)
    assert (work["status"], work["progress"], work["error"]) == ("pending", 0, None)
    store.admit_waiting()
    assert store.task(task_id)["admitted_charge"] == 2


@pytest.mark.parametrize("stand", ["claimed", "completed", "pending"])
def test_only_a_failed_or_cancelled_task_is_retried(
    stand: str,
    claimed_task: Callable[..., Claim],
    completed_task: Callable[..., str],
    admitted_task: Callable[..., str],
    producer: sqlite3.Connection,
    store: Store,
) -> None:
    task_id = {
        "claimed": lambda: claimed_task().task_id,
        "completed": completed_task,
        "pending": admitted_task,
    }[stand]()
    before = store.task(task_id)
    try:
        producer.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (task_id,))
    except sqlite3.IntegrityError as refused:
        assert stand != "pending" and "no such step" in str(refused)
    assert store.task(task_id) == before


def test_a_task_whose_work_was_deleted_is_not_retried(
    failed_task: Callable[..., str], producer: sqlite3.Connection, store: Store
) -> None:
    task_id = failed_task()
    store.write(lambda tx: works.delete(tx, store.work(task_id)["id"], "o-1"))
    with pytest.raises(sqlite3.IntegrityError, match="work was deleted, so it can not be retried"):
        producer.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (task_id,))


def test_a_work_is_not_deleted_under_its_open_task(
    claimed_task: Callable[..., Claim], producer: sqlite3.Connection
) -> None:
    claimed_task()
    with pytest.raises(sqlite3.IntegrityError, match="cancel the task before its work is deleted"):
        producer.execute("DELETE FROM works")


def test_triggers_use_built_in_functions_only_and_know_their_own_tables(store: Store) -> None:
    """Whatever a plain connection can't run would fail here at its first statement."""
    known = {row["name"] for row in store.all("SELECT DISTINCT name FROM pragma_function_list WHERE builtin")}
    keywords = {
        "raise", "values", "exists", "in", "and", "or", "not", "when", "where", "select", "task_queue", "works",
        "account", "credit_entry", "work_change", "metric", "of", "as", "then", "else",
        "from", "on", "case", "max", "coalesce",
    }  # fmt: skip
    for row in store.all("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"):
        unquoted = re.sub(r"'(?:[^']|'')*'", "''", row["sql"])
        called = {word.lower() for word in re.findall(r"\b([A-Za-z_]+)\s*\(", unquoted)}
        assert called <= known | keywords | {"cast"}, (row["name"], called - known - keywords)


def test_every_door_leads_to_the_same_row(
    producer: sqlite3.Connection, store: Store, admitted_task: Callable[..., str]
) -> None:
    by_http = admitted_task("o-1")
    by_sql = _insert(producer, user_openid="o-2")
    store.admit_waiting()
    own = {"id", "user_openid", "work_id", "created_at", "updated_at", "expires_at", "params"}
    rows = [{k: v for k, v in store.task(each).items() if k not in own} for each in (by_http, by_sql)]
    assert rows[0] == rows[1]
    assert store.value("SELECT count(*) FROM works") == 2
