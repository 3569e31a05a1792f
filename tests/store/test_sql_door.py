"""Work created with plain SQL: a connection with no pragma and no function of ours."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.provider import Provider
from supervisor.core.claim import Claim
from supervisor.store.feed import works
from supervisor.store.queue import dispatch
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import admission, claims, user_actions
from tests.conftest import Clock, Store
from tests.support.databases import INSERTS, REFUSED, SQLITE, UPDATES, Plain

PARAMS = '{"images":["https://example.org/person.jpg"]}'
INSERT = (
    "INSERT INTO task_queue (user_openid, type, params{more}) VALUES ('o-1', 'photography', :params{values})"
)
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def _insert(producer: Plain, verb: str = "INSERT", **columns: Any) -> str:
    """The id of a row written with these columns besides the usual ones."""
    given = {"user_openid": "o-1", "type": "photography", "params": PARAMS} | columns
    names, marks = ", ".join(given), ", ".join(f":{name}" for name in given)
    (task_id,) = producer.execute(
        f"{verb} INTO task_queue ({names}) VALUES ({marks}) RETURNING id", given
    ).fetchone()
    return str(task_id)


def test_three_columns_are_enough(producer: Plain, store: Store) -> None:
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


def test_ids_are_ulids_made_by_the_database_alone_and_never_twice(producer: Plain) -> None:
    producer.execute(
        """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
            INSERT INTO task_queue (user_openid, type, params) SELECT 'o-1', 'photography', '{}' FROM n"""
    )
    ids = [row[0] for row in producer.execute("SELECT id FROM task_queue")]
    assert len(set(ids)) == 2000 and all(ULID.fullmatch(each) for each in ids)
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    milliseconds = 0
    for character in ids[0][:10]:
        milliseconds = milliseconds * 32 + alphabet.index(character)
    assert abs(milliseconds / 1000 - datetime.now(UTC).timestamp()) < 60


def test_an_admitted_row_has_a_work_and_is_as_good_as_one_from_http(
    producer: Plain, store: Store, live_worker: Callable[..., str]
) -> None:
    live_worker()
    task_id = _insert(producer)
    assert store.admit_waiting() == 1 and store.admit_waiting() == 0
    assert store.work(task_id)["status"] == "pending"
    assert [hint.task_id for hint in store.dispatch()] == [task_id]


@pytest.mark.parametrize("task_id", ["a", "A-Z_09", "x" * 64, "0", "-"])
def test_an_id_from_outside_may_be_any_string_of_the_alphabet(
    task_id: str, producer: Plain, store: Store
) -> None:
    assert _insert(producer, id=task_id) == task_id
    store.admit_waiting()
    assert store.task(task_id)["status"] == "pending"


def test_an_id_outside_the_alphabet_is_refused(producer: Plain, store: Store, database_kind: str) -> None:
    ids: list[Any] = ["", "x" * 65, "a b", "a/b", "ä", "a.b", "a'b", "a\n", None]
    if database_kind == SQLITE:  # its texts may hold a NUL, and its columns have no type
        ids += ["abc\0", "abc\0/../x", b"abc"]
    for verb, task_id in itertools.product(INSERTS[database_kind], ids):
        with pytest.raises(REFUSED, match="id must be 1-64 characters"):
            _insert(producer, verb, id=task_id)
    assert store.value("SELECT count(*) FROM task_queue") == 0


def test_params_that_are_no_json_object_are_refused(
    producer: Plain, store: Store, database_kind: str
) -> None:
    other_json = ["[]", "null", '"text"', "1", None]
    no_json: list[Any] = ["", "{", "{'images':[]}", "not json", PARAMS + "x", PARAMS + "\0", PARAMS + "\0x"]
    if database_kind == SQLITE:
        no_json += [PARAMS.encode(), 7]
    for verb, params in itertools.product(INSERTS[database_kind], [*other_json, *no_json]):
        is_typed = database_kind != SQLITE and params in no_json  # the column's type has its own words
        with pytest.raises(REFUSED, match="json|NUL" if is_typed else "params must be a JSON object"):
            _insert(producer, verb, params=params)
    assert store.value("SELECT count(*) FROM task_queue") == 0


def test_writable_columns_have_bounds(producer: Plain, store: Store, database_kind: str) -> None:
    outside: dict[str, list[Any]] = {
        "user_openid": ["", "x" * 129, None],
        "type": ["", "x" * 65, None],
        "priority": [11, -11, None],
    }
    if database_kind == SQLITE:
        outside["user_openid"] += [b"o-1", "o\0-1"]
        outside["type"] += ["photography\0"]
        outside["priority"] += [1.5, "high"]
    for verb, (column, values) in itertools.product(INSERTS[database_kind], outside.items()):
        for value in values:
            with pytest.raises(REFUSED, match=column):
                _insert(producer, verb, **{column: value})
    assert store.value("SELECT count(*) FROM task_queue") == 0


def _value_of(store: Store, column: str) -> Any:
    """A value that fits the column's type and is not its default."""
    if store.database.read(lambda tx: tx.dialect.name) == SQLITE:
        return 7
    if column.endswith(("_at", "_since")):
        return "2026-11-05T08:00:00.000Z"
    return "7"


WRITABLE = {"id", "user_openid", "type", "status", "params", "priority", "run_after"}


def test_no_column_but_the_writable_ones_can_be_given(
    producer: Plain, store: Store, database_kind: str
) -> None:
    columns = {column[0] for column in producer.execute("SELECT * FROM task_queue").description}
    times = {column for column in columns if column.endswith(("_at", "_since"))}
    assert columns > WRITABLE and len(times) == 12
    for verb in INSERTS[database_kind]:
        for column in columns - WRITABLE:
            with pytest.raises(REFUSED, match=f"{column} is set by Darkroom"):
                _insert(producer, verb, **{column: _value_of(store, column)})
        for status in ("processing", "completed", "failed", "", None):
            with pytest.raises(REFUSED, match="status may be given at insert only as pending"):
                _insert(producer, verb, status=status)
    assert store.value("SELECT count(*) FROM task_queue") == 0
    for verb in INSERTS[database_kind]:
        _insert(producer, verb, status="pending")
    assert store.value("SELECT count(*) FROM task_queue") == len(INSERTS[database_kind])


# --- no row replaces an existing one ---


def _everything(store: Store) -> list[list[dict[str, Any]]]:
    tables = {
        "task_queue": "id",
        "works": "id",
        "credit_entry": "id",
        "work_change": "log_id",
        "account": "user_openid",
    }
    return [store.all(f"SELECT * FROM {table} ORDER BY {order}") for table, order in tables.items()]


def test_an_existing_task_is_never_replaced(
    producer: Plain, store: Store, claimed_task: Callable[..., Claim], database_kind: str
) -> None:
    claim = claimed_task()
    before = _everything(store)
    for verb in INSERTS[database_kind]:
        with pytest.raises(REFUSED, match="a task with this id exists already"):
            _insert(producer, verb, id=claim.task_id)
        with pytest.raises(REFUSED, match="work_id is set by Darkroom"):
            _insert(producer, verb, work_id=store.task(claim.task_id)["work_id"])
        assert _everything(store) == before


@pytest.mark.sqlite_only
def test_no_row_takes_the_place_of_another_by_its_rowid(
    producer: Plain, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    before = _everything(store)
    rowid = store.value("SELECT rowid FROM task_queue WHERE id = ?", claim.task_id)
    for verb in INSERTS[SQLITE]:
        with pytest.raises(REFUSED, match="a task with this rowid exists already"):
            _insert(producer, verb, rowid=rowid)
        with pytest.raises(REFUSED, match="a work is made by the admission"):
            producer.execute(
                f"""{verb} INTO works (rowid, id, task_id, user_openid, type, status, stage, progress)
                    SELECT rowid, 'other', 'other', 'thief', type, status, stage, progress FROM works"""
            )
    for verb in UPDATES[SQLITE]:
        with pytest.raises(REFUSED, match="of a work can not change"):
            producer.execute(f"{verb} works SET rowid = rowid + 1")
    assert _everything(store) == before


@pytest.mark.sqlite_only
@pytest.mark.parametrize("rowid", [-1, -7, 0])
def test_no_task_has_a_rowid_that_a_trigger_could_not_see(rowid: int, producer: Plain) -> None:
    """In a BEFORE trigger a rowid that is not given reads as -1."""
    with pytest.raises(REFUSED, match="rowid of a task is above 0"):
        _insert(producer, "INSERT OR REPLACE", rowid=rowid)
    _insert(producer)


@pytest.mark.parametrize(
    "clause",
    [
        "ON CONFLICT (id) DO UPDATE SET status = 'completed', progress = 100, finished_at = '2026-11-05'",
        "ON CONFLICT (id) DO UPDATE SET user_openid = 'thief'",
        "ON CONFLICT DO NOTHING",
        "ON CONFLICT (id) DO UPDATE SET params = excluded.params",
    ],
)
def test_an_upsert_changes_no_task(
    clause: str, producer: Plain, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    before = _everything(store)
    with pytest.raises(REFUSED, match="exists already"):
        producer.execute(
            f"INSERT INTO task_queue (id, user_openid, type, params) VALUES (?, 'o-2', 'fitting', ?) {clause}",
            (claim.task_id, PARAMS),
        )
    assert _everything(store) == before


@pytest.mark.parametrize("places", ["id", "task_id", "id, task_id"])
def test_an_existing_work_is_never_replaced_and_none_is_made_by_hand(
    places: str, producer: Plain, store: Store, claimed_task: Callable[..., Claim], database_kind: str
) -> None:
    claimed_task()
    before = _everything(store)
    columns = ["id", "task_id"]
    values = [each if each in places.split(", ") else "'other'" for each in columns]
    for verb in INSERTS[database_kind]:
        with pytest.raises(REFUSED, match="a work is made by the admission"):
            producer.execute(
                f"""{verb} INTO works ({", ".join(columns)}, user_openid, type, status, stage, progress)
                    SELECT {", ".join(values)}, 'thief', type, status, stage, progress FROM works"""
            )
        assert _everything(store) == before


def test_a_work_keeps_its_owner_and_its_task(
    producer: Plain, store: Store, claimed_task: Callable[..., Claim], database_kind: str
) -> None:
    first, second = claimed_task("o-1"), claimed_task("o-2")
    before = _everything(store)
    other = store.work(second.task_id)
    changed = {"type": "fitting", "created_at": "2026-11-05T08:00:00.000Z"}
    changed |= {column: other[column] for column in ("id", "task_id", "user_openid")}
    for verb, (column, value) in itertools.product(UPDATES[database_kind], changed.items()):
        with pytest.raises(REFUSED, match="of a work can not change"):
            producer.execute(f"{verb} works SET {column} = ? WHERE task_id = ?", (value, first.task_id))
    assert _everything(store) == before


def test_an_id_that_the_ledger_knows_is_not_given_again(
    producer: Plain, store: Store, cancelled_task: Callable[..., str]
) -> None:
    """Its charge 1 is paid and refunded already: a second task of that name could never be admitted."""
    task_id = cancelled_task()
    producer.execute("DELETE FROM task_queue WHERE id = ?", (task_id,))
    with pytest.raises(REFUSED, match="existed before"):
        _insert(producer, id=task_id)


def test_an_id_that_a_service_was_asked_under_is_not_given_again(
    producer: Plain, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    """What the service did for the first task of that name would be taken for the second one's."""
    store.settings = store.settings.model_copy(
        update={"credits": store.settings.credits.model_copy(update={"enabled": False})}
    )
    claim = claimed_task()
    store.write(lambda tx: remote_jobs.begin(tx, claim, "ai", Provider(kind="http"), 0))
    work_id = store.work(claim.task_id)["id"]
    store.write(lambda tx: works.delete(tx, work_id, "o-1"))
    producer.execute("DELETE FROM task_queue WHERE id = ?", (claim.task_id,))
    assert store.value("SELECT count(*) FROM credit_entry WHERE task_id IS NOT NULL") == 0
    with pytest.raises(REFUSED, match="what services were asked for it is still kept"):
        _insert(producer, id=claim.task_id)


# --- times ---


def test_run_after_is_normalised_with_its_offset(producer: Plain, store: Store, database_kind: str) -> None:
    times = {
        "2027-01-31T09:00:00.000Z": "2027-01-31T09:00:00.000Z",
        "2027-01-31T09:00:00Z": "2027-01-31T09:00:00.000Z",
        "2027-01-31T09:00:00+08:00": "2027-01-31T01:00:00.000Z",
        "2027-01-01T00:30:00.250+01:00": "2026-12-31T23:30:00.250Z",
        "2027-01-31T09:00:00-03:30": "2027-01-31T12:30:00.000Z",
    }
    if database_kind == SQLITE:  # elsewhere a time without an offset is in the session's time zone
        times |= {
            "2027-01-31 09:00:00": "2027-01-31T09:00:00.000Z",
            "2027-01-31T09:00": "2027-01-31T09:00:00.000Z",
            "2027-01-31": "2027-01-31T00:00:00.000Z",
        }
    for given, stored in times.items():
        assert store.task(_insert(producer, run_after=given))["run_after"] == stored


def test_a_run_after_that_is_no_time_is_refused(producer: Plain, database_kind: str) -> None:
    no_times: list[Any] = ["", "2027-13-01", "2027-01-32", "2027-01-31T25:00:00Z", "31.01.2027", "1800000000"]
    if database_kind == SQLITE:
        no_times += ["now", "tomorrow", 0, 1800000000, 2459000.5, b"2027-01-31"]
    else:
        for never in ("infinity", "-infinity", "10000-01-01", "0044-03-15 BC"):
            with pytest.raises(REFUSED, match="run_after must be a time such as"):
                _insert(producer, run_after=never)
    for verb, given in itertools.product(INSERTS[database_kind], [*no_times, "2027-01-31T09:00:00 o'clock"]):
        sentence = "run_after must be a time such as" if database_kind == SQLITE else "date|time"
        with pytest.raises(REFUSED, match=sentence):
            _insert(producer, verb, run_after=given)


def test_a_task_waits_for_its_run_after_by_the_databases_clock(
    producer: Plain, store: Store, clock: Clock, live_worker: Callable[..., str]
) -> None:
    live_worker()
    at = (clock.now() + timedelta(hours=1)).astimezone(UTC).isoformat()
    task_id = _insert(producer, run_after=at)
    store.admit_waiting()
    assert store.dispatch() == []
    wanted = claims.Wanted(task_id, "worker-1", 9)
    assert store.write(lambda tx: claims.claim_for(tx, [wanted]).get()) == []
    clock.advance(3601)
    store.write(dispatch.ripen)
    assert [claim.task_id for claim in store.dispatch()] == [task_id]


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
    columns: dict[str, Any], code: str, producer: Plain, store: Store
) -> None:
    try:
        task_id = _insert(producer, **columns)
    except REFUSED as refused:  # newer SQLite has a lower limit of depth; PostgreSQL knows half a character
        assert "params must be a JSON object" in str(refused) or "surrogate" in str(refused)
        return
    store.admit_waiting()
    row, work = store.task(task_id), store.work(task_id)
    assert (row["status"], work["status"]) == ("failed", "failed")
    assert json.loads(work["error"])["code"] == code and json.loads(work["error"])["message"]
    assert store.entries(task_id) == []
    view = store.database.read(lambda tx: user_actions.get(tx, task_id))
    assert view is not None and view["error"]["code"] == code


@pytest.mark.sqlite_only
def test_no_row_stops_the_admission_of_the_others(producer: Plain, store: Store) -> None:
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


def test_admission_goes_by_users_in_sorted_order(producer: Plain, store: Store) -> None:
    for user in ("c", "a", "b", "a"):
        _insert(producer, user_openid=user)
    assert store.write(lambda tx: admission.admit_waiting(tx, store.settings, 3).get().rows) == 3
    rows = store.all("SELECT user_openid FROM works ORDER BY user_openid")
    assert [row["user_openid"] for row in rows] == ["a", "a", "b"]


# --- the manual retry ---


def test_a_retry_by_sql_starts_anew_and_keeps_lease_and_attempt(
    failed_task: Callable[..., str], producer: Plain, store: Store, database_kind: str
) -> None:
    for verb in UPDATES[database_kind]:
        _retry_by_sql(verb, failed_task(), producer, store)


def _retry_by_sql(verb: str, task_id: str, producer: Plain, store: Store) -> None:
    before = store.task(task_id)
    assert before["lease"] == before["attempt"] == before["failures"] == 1
    producer.execute(
        f"{verb} task_queue SET status = 'pending', run_after = '2099-01-01', stage = 'x' WHERE id = ?",
        (task_id,),
    )
    row = store.task(task_id)
    kept = {column: row[column] for column in ("lease", "attempt", "work_id", "created_at")}
    assert kept == {column: before[column] for column in kept}
    assert (row["charge"], row["admitted_charge"]) == (2, 1)
    assert (row["failures"], row["deaths"], row["progress"], row["stage"]) == (0, 0, 0, "queued")
    for column in (
        "error",
        "images",
        "worker_id",
        "deadline_at",
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
    producer: Plain,
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
    except REFUSED as refused:
        assert stand != "pending" and "no such step" in str(refused)
    assert store.task(task_id) == before


def test_a_task_whose_work_was_deleted_is_not_retried(
    failed_task: Callable[..., str], producer: Plain, store: Store
) -> None:
    task_id = failed_task()
    store.write(lambda tx: works.delete(tx, store.work(task_id)["id"], "o-1"))
    with pytest.raises(REFUSED, match="work was deleted, so it can not be retried"):
        producer.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (task_id,))


def test_a_work_is_not_deleted_under_its_open_task(
    claimed_task: Callable[..., Claim], producer: Plain
) -> None:
    claimed_task()
    with pytest.raises(REFUSED, match="cancel the task before its work is deleted"):
        producer.execute("DELETE FROM works")


@pytest.mark.sqlite_only
def test_triggers_use_built_in_functions_only_and_know_their_own_tables(store: Store) -> None:
    """Whatever a plain connection can't run would fail here at its first statement."""
    known = {row["name"] for row in store.all("SELECT DISTINCT name FROM pragma_function_list WHERE builtin")}
    keywords = {
        "raise", "values", "exists", "in", "and", "or", "not", "when", "where", "select", "task_queue", "works",
        "account", "credit_entry", "work_change", "task_event", "task_count", "metric", "webhook_delivery",
        "of", "as", "then", "else",
        "from", "on", "case", "max", "coalesce",
    }  # fmt: skip
    for row in store.all("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"):
        unquoted = re.sub(r"'(?:[^']|'')*'", "''", row["sql"])
        called = {word.lower() for word in re.findall(r"\b([A-Za-z_]+)\s*\(", unquoted)}
        assert called <= known | keywords | {"cast"}, (row["name"], called - known - keywords)


def test_every_interface_makes_the_same_row(
    producer: Plain, store: Store, admitted_task: Callable[..., str]
) -> None:
    by_http = admitted_task("o-1")
    by_sql = _insert(producer, user_openid="o-2")
    store.admit_waiting()
    own = {"id", "user_openid", "work_id", "created_at", "updated_at", "expires_at", "params"}
    rows = [{k: v for k, v in store.task(each).items() if k not in own} for each in (by_http, by_sql)]
    assert rows[0] == rows[1]
    assert store.value("SELECT count(*) FROM works") == 2
