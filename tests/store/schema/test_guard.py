"""The database's own guard: it allows the steps of the lifecycle table to every program and statement."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from supervisor.core.lifecycle import COUNTED, FINAL, OPEN, Event, Rule, Status
from supervisor.store.operators import operator_actions
from supervisor.store.operators.audit import Operator
from supervisor.store.tasks import claims
from tests.conftest import Store, claim_now
from tests.support.databases import REFUSED, SQLITE, UPDATES, Plain, fresh_settings, is_postgres
from tests.support.models.lifecycle_model import IllegalStep, TaskState, step, steps_between
from tests.support.models.stepped import advance_now, portrait
from tests.support.servers.postgres_databases import give_back

TIME = "2026-11-05T08:00:00.000Z"
STANDS = [*Status, "admitted", "polled", "at its first step", "at its second step"]
RISES = (frozenset(), frozenset({"failures"}), frozenset({"deaths"}), frozenset({"failures", "deaths"}))

# What a status asks of the columns beside the counted ones, in each way that a step might set them.
DRESS: dict[Status, list[dict[str, Any]]] = {
    Status.PENDING: [
        {"worker_id": None, "deadline_at": None, "progress": 0, "work_id": "w-new"},
        {"worker_id": None, "deadline_at": None, "progress": 0},
        {"worker_id": None, "deadline_at": None},
    ],
    Status.PROCESSING: [
        {"worker_id": "worker-1", "deadline_at": TIME, "progress": 0},
        {"worker_id": "worker-1", "deadline_at": TIME},
    ],
    Status.AI_PROCESSING: [
        {"worker_id": None, "next_poll_at": TIME},
        {"worker_id": "worker-1", "next_poll_at": TIME},
    ],
    Status.COMPLETED: [{"progress": 100, "finished_at": TIME}],
    Status.FAILED: [{"error": '{"code":"internal","message":""}', "finished_at": TIME}],
    Status.CANCELLED: [{"finished_at": TIME}],
}


@pytest.fixture
def stands(
    pending_task: Callable[..., str],
    admitted_task: Callable[..., str],
    claimed_task: Callable[..., Any],
    handed_off_task: Callable[..., str],
    polled_task: Callable[..., tuple[str, int]],
    completed_task: Callable[..., str],
    failed_task: Callable[..., str],
    cancelled_task: Callable[..., str],
    second_step: Callable[..., str],
) -> dict[str, str]:
    """A task in every status, and in both kinds of pending and of ai_processing; {where it stands: its id}."""
    return {
        "at its first step": claimed_task("i", type_="portrait").task_id,
        "at its second step": second_step("j"),
        Status.PROCESSING: claimed_task("a").task_id,
        Status.AI_PROCESSING: handed_off_task("b", poll_in_seconds=900),
        "polled": polled_task("c")[0],
        Status.COMPLETED: completed_task("d"),
        Status.FAILED: failed_task("e"),
        Status.CANCELLED: cancelled_task("f"),
        "admitted": admitted_task("g"),
        Status.PENDING: pending_task("h"),
    }


@pytest.fixture
def settings(tmp_path: Path, database_kind: str) -> Iterator[Settings]:
    """With a type that has two steps."""
    steps = portrait()["steps"][:2]
    chosen = fresh_settings(tmp_path, kind=database_kind, tasks={"portrait": {"steps": steps}})
    yield chosen
    if is_postgres(chosen):
        give_back(chosen.database_url)


@pytest.fixture
def second_step(store: Store, claimed_task: Callable[..., Any]) -> Callable[..., str]:
    """At the last step of two, in a worker's hands; its id."""

    def make(user: str) -> str:
        claim = claimed_task(user, type_="portrait")
        store.write(lambda tx: advance_now(tx, claim.task_id, claim.lease))
        return store.write(lambda tx: claim_now(tx, claim.task_id, "worker-1")).task_id

    return make


@contextlib.contextmanager
def _undone(producer: Plain) -> Iterator[None]:
    producer.execute("BEGIN")
    try:
        yield
    finally:
        producer.execute("ROLLBACK")


def _state(row: dict[str, Any]) -> TaskState:
    steps = {column: row[column] for column in ("first_step", "last_step")}
    return TaskState(status=Status(row["status"]), **steps, **{column: row[column] for column in COUNTED})


def _accepts(producer: Plain, task_id: str, columns: dict[str, Any], verb: str = "UPDATE") -> bool:
    """Whether a direct UPDATE passes; it is taken back."""
    assigned = ", ".join(f"{column} = ?" for column in columns)
    with _undone(producer):
        try:
            producer.execute(f"{verb} task_queue SET {assigned} WHERE id = ?", (*columns.values(), task_id))
        except REFUSED:
            return False
        return True


def _outcomes(task: TaskState, target: Status, *, is_held: bool) -> set[tuple[int, ...]]:
    """The counted columns after every step that the lifecycle has between the two.

    is_held: by a worker; only a poller knows that its service has forgotten the job, or that its step is finished.
    """
    found = set()
    for arrow in steps_between(task.status, target):
        if arrow.event in (Event.ORDER_AGAIN, Event.ADVANCE) and not is_held:
            continue
        for rising in RISES:
            with contextlib.suppress(IllegalStep):
                after = step(task, arrow.event, rising=rising)
                found.add(tuple(getattr(after, column) for column in COUNTED))
    return found


@pytest.mark.parametrize("stand", STANDS)
def test_the_guard_agrees_with_the_lifecycle_about_every_pair_of_statuses(
    stand: str, stands: dict[str, str], store: Store, producer: Plain
) -> None:
    row = store.task(stands[stand])
    task = _state(row)
    for target in Status:
        if task.status in (Status.FAILED, Status.CANCELLED) and target is Status.PENDING:
            continue  # two steps inside one statement on SQLite; tested below
        legal = _outcomes(task, target, is_held=row["worker_id"] is not None)
        ways = {
            "lease": (-1, 0, 1, 2),
            "attempt": (-1, 0, 1),
            "charge": (0, 1),
            "step": (0, 1),
            "admitted_charge": {0, task.charge - task.admitted_charge},
            "failures": {0, 1, -task.failures},
            "deaths": (0, 1),
            "dispatch": (0, 1),
        }
        for rises in itertools.product(*(ways[column] for column in COUNTED)):
            if sum(each != 0 for each in rises) > 4:
                continue
            counted = {c: getattr(task, c) + n for c, n in zip(COUNTED, rises, strict=True)}
            passed = any(
                _accepts(producer, row["id"], {"status": target.value, **counted, **dress})
                for dress in DRESS[target]
                if "work_id" not in dress or row["work_id"] is None
            )
            assert passed == (tuple(counted.values()) in legal), (stand, target, counted)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": "[]"},
        {"steps": None},
        {"first_step": 1},
        {"last_step": 5},
        {"lane": ""},
        {"kept": 1},
        {"kept": -1},
    ],
)
def test_the_steps_of_a_task_are_fixed_at_its_admission(
    change: dict[str, Any], stands: dict[str, str], producer: Plain
) -> None:
    for stand in ("at its first step", "at its second step"):
        ((column, value),) = change.items()
        with (
            _undone(producer),
            pytest.raises(REFUSED, match="the steps of a task are fixed when it is admitted"),
        ):
            producer.execute(f"UPDATE task_queue SET {column} = ? WHERE id = ?", (value, stands[stand]))


def test_every_pair_without_an_arrow_is_refused_with_a_sentence(
    stands: dict[str, str], store: Store, producer: Plain, database_kind: str
) -> None:
    tried, verbs = 0, UPDATES[database_kind]
    for (_, task_id), target in itertools.product(stands.items(), Status):
        before = store.task(task_id)
        if steps_between(Status(before["status"]), target):
            continue
        for dress, verb in itertools.product(DRESS[target], verbs):
            columns = {"status": target.value, **dress}
            columns.pop("work_id", None)
            assigned = ", ".join(f"{column} = ?" for column in columns)
            with pytest.raises(REFUSED, match="the lifecycle of a task has no such step"):
                producer.execute(
                    f"{verb} task_queue SET {assigned} WHERE id = ?", (*columns.values(), task_id)
                )
            tried += 1
        assert store.task(task_id) == before
    assert tried >= len(verbs) * 15


@pytest.mark.parametrize("stand", ["failed", "cancelled"])
def test_a_retry_by_sql_is_the_resubmit_of_the_lifecycle(
    stand: str, stands: dict[str, str], store: Store, producer: Plain
) -> None:
    before = store.task(stands[stand])
    producer.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (before["id"],))
    assert _state(store.task(before["id"])) == step(_state(before), Event.RESUBMIT)


def test_a_retry_by_sql_chooses_no_counted_column_itself(
    stands: dict[str, str], producer: Plain, store: Store, database_kind: str
) -> None:
    for task_id in (stands["failed"], stands["cancelled"]):
        for column in COUNTED:
            wrong = store.task(task_id)[column] + 1
            assert not _accepts(producer, task_id, {"status": "pending", column: wrong})
        if database_kind == SQLITE:  # where the row is known by it between the two steps
            assert not _accepts(producer, task_id, {"status": "pending", "finished_at": None})


def test_lease_and_attempt_never_fall_not_even_to_a_default(
    stands: dict[str, str], producer: Plain, store: Store, database_kind: str
) -> None:
    """UPDATE OR REPLACE puts a default where NULL is given, after every BEFORE trigger has seen the NULL."""
    for task_id in stands.values():
        before = store.task(task_id)
        values = (None, -1, "x", before["lease"] - 1)
        for verb, column, value in itertools.product(UPDATES[database_kind], ("lease", "attempt"), values):
            with contextlib.suppress(*REFUSED):
                producer.execute(f"{verb} task_queue SET {column} = ? WHERE id = ?", (value, task_id))
            assert store.task(task_id) == before, (column, value)


def test_no_column_of_the_guard_is_emptied_into_an_illegal_step(
    stands: dict[str, str], producer: Plain, store: Store, database_kind: str
) -> None:
    for task_id in stands.values():
        before = store.task(task_id)
        for verb, column in itertools.product(UPDATES[database_kind], ("status", *COUNTED)):
            with pytest.raises(REFUSED):
                producer.execute(f"{verb} task_queue SET {column} = NULL WHERE id = ?", (task_id,))
        assert store.task(task_id) == before


def test_the_order_and_the_user_of_a_task_can_not_change(
    stands: dict[str, str], producer: Plain, store: Store, database_kind: str
) -> None:
    before = store.all("SELECT * FROM task_queue ORDER BY id")
    others = {"id": "another", "user_openid": "thief", "type": "fitting", "params": "{}", "created_at": TIME}
    for verb, (column, value) in itertools.product(UPDATES[database_kind], others.items()):
        with pytest.raises(REFUSED, match="can not change"):
            producer.execute(f"{verb} task_queue SET {column} = ? WHERE id = ?", (value, stands["admitted"]))
    assert store.all("SELECT * FROM task_queue ORDER BY id") == before


@pytest.mark.parametrize("value", ["2099-01-01T00:00:00.000Z", "2020-01-01T00:00:00.000Z", None])
def test_the_time_of_a_task_is_moved_by_no_other(
    value: str | None,
    stands: dict[str, str],
    producer: Plain,
    store: Store,
    database_kind: str,
    admitted_task: Callable[..., str],
    claimed_task: Callable[..., Any],
) -> None:
    """It would leave the row unpicked, or stuck: `ready` says whether a time has come."""
    claim = claimed_task("o-7")
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 100))
    later = admitted_task("o-8", run_after="2098-01-01T00:00:00.000Z")
    before = store.all("SELECT * FROM task_queue ORDER BY id")
    tasks = [*stands.values(), claim.task_id, later]
    for verb, task_id in itertools.product(UPDATES[database_kind], tasks):
        if store.task(task_id)["run_after"] == value:
            continue
        with pytest.raises(REFUSED, match="run_after of a task is given at insert"):
            producer.execute(f"{verb} task_queue SET run_after = ? WHERE id = ?", (value, task_id))
    assert store.all("SELECT * FROM task_queue ORDER BY id") == before


def test_an_operator_may_end_a_pause(store: Store, claimed_task: Callable[..., Any]) -> None:
    claim = claimed_task()
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 100))
    store.write(
        lambda tx: operator_actions.release(
            tx, store.settings, Operator("o-oncall", "operator"), claim.task_id
        )
    )
    row = store.task(claim.task_id)
    assert (row["run_after"], row["ready"]) == (None, 1)


@pytest.mark.sqlite_only
@pytest.mark.parametrize("verb", UPDATES[SQLITE])
def test_a_task_keeps_its_rowid(verb: str, stands: dict[str, str], producer: Plain, store: Store) -> None:
    before = store.all("SELECT rowid, * FROM task_queue ORDER BY rowid")
    for rowid in ("(SELECT max(rowid) FROM task_queue)", "99"):
        with pytest.raises(REFUSED, match="can not change"):
            producer.execute(f"{verb} task_queue SET rowid = {rowid} WHERE id = ?", (stands["admitted"],))
    assert store.all("SELECT rowid, * FROM task_queue ORDER BY rowid") == before


@pytest.mark.parametrize("value", ["NULL", "'w-new'", "(SELECT work_id FROM task_queue WHERE id = :other)"])
def test_a_work_is_given_to_one_task_once(
    value: str, stands: dict[str, str], producer: Plain, store: Store, database_kind: str
) -> None:
    """OR REPLACE with another task's work_id would delete that task, paid for and without a refund."""
    everything = (
        store.all("SELECT * FROM task_queue ORDER BY id"),
        store.all("SELECT * FROM works ORDER BY id"),
    )
    for verb in UPDATES[database_kind]:
        with pytest.raises(REFUSED, match="work_id of a task is given once"):
            producer.execute(
                f"{verb} task_queue SET work_id = {value} WHERE id = :id",
                {"id": stands[Status.PROCESSING], "other": stands[Status.COMPLETED]},
            )
        with pytest.raises(REFUSED, match="work_id of a task is given once"):
            producer.execute(
                f"""{verb} task_queue SET admitted_charge = charge,
                    work_id = (SELECT work_id FROM task_queue WHERE id = :other) WHERE id = :id""",
                {"id": stands[Status.PENDING], "other": stands[Status.COMPLETED]},
            )
    assert everything == (
        store.all("SELECT * FROM task_queue ORDER BY id"),
        store.all("SELECT * FROM works ORDER BY id"),
    )


def test_a_pending_row_can_not_pass_for_half_a_resubmit(
    admitted_task: Callable[..., str], producer: Plain, store: Store
) -> None:
    task_id = admitted_task()
    before = store.task(task_id)
    with pytest.raises(REFUSED):
        producer.execute("UPDATE task_queue SET finished_at = ? WHERE id = ?", (TIME, task_id))
    with pytest.raises(REFUSED):
        producer.execute(
            """UPDATE task_queue SET charge = charge + 1, failures = 0, deaths = 0, dispatch = dispatch + 1,
                finished_at = NULL WHERE id = ?""",
            (task_id,),
        )
    assert store.task(task_id) == before


@pytest.mark.parametrize("stand", [Status.PROCESSING, Status.AI_PROCESSING, "polled"])
def test_progress_never_falls_within_an_attempt(stand: str, stands: dict[str, str], producer: Plain) -> None:
    task_id = stands[stand]
    producer.execute("UPDATE task_queue SET progress = 40 WHERE id = ?", (task_id,))
    assert _accepts(producer, task_id, {"progress": 41})
    assert not _accepts(producer, task_id, {"progress": 39})
    fallen = {"progress": 39, "worker_id": None, "next_poll_at": TIME, "status": "ai_processing"}
    (dispatch,) = producer.execute("SELECT dispatch FROM task_queue WHERE id = ?", (task_id,)).fetchone()
    assert not _accepts(producer, task_id, {**fallen, "dispatch": dispatch + 1})
    assert _accepts(producer, task_id, {**fallen, "dispatch": dispatch + 1, "progress": 40})


def test_a_task_returns_to_pending_with_no_progress(
    claimed_task: Callable[..., Any], producer: Plain
) -> None:
    task_id = claimed_task().task_id
    producer.execute("UPDATE task_queue SET progress = 40 WHERE id = ?", (task_id,))
    back = {"status": "pending", "worker_id": None, "deadline_at": None, "dispatch": 2}
    assert not _accepts(producer, task_id, back)
    assert _accepts(producer, task_id, {**back, "progress": 0})


def test_an_unknown_status_is_refused(stands: dict[str, str], producer: Plain, database_kind: str) -> None:
    untyped = [1, b"pending"] if database_kind == SQLITE else []
    for word, task_id in itertools.product(["", "PENDING", "done", "pending ", *untyped], stands.values()):
        with pytest.raises(REFUSED, match="status must be pending, processing"):
            producer.execute("UPDATE task_queue SET status = ? WHERE id = ?", (word, task_id))


BELONGINGS: list[tuple[str, dict[str, Any]]] = [
    ("admitted", {"worker_id": "worker-1"}),
    ("admitted", {"deadline_at": TIME}),
    ("processing", {"deadline_at": None}),
    ("ai_processing", {"next_poll_at": None}),
    ("completed", {"finished_at": None}),
    ("completed", {"progress": 99}),
    ("failed", {"finished_at": None}),
    ("failed", {"error": None}),
    ("cancelled", {"finished_at": None}),
    ("processing", {"status": "completed", "finished_at": TIME}),
    ("processing", {"status": "completed", "progress": 100}),
    ("processing", {"status": "failed", "finished_at": TIME}),
    ("admitted", {"priority": 11}),
    ("processing", {"progress": 101}),
]


def test_each_status_has_the_columns_that_belong_to_it(stands: dict[str, str], producer: Plain) -> None:
    for stand, columns in BELONGINGS:
        assert not _accepts(producer, stands[stand], columns), (stand, columns)


def test_an_open_task_is_never_deleted_and_a_finished_one_may_be(
    stands: dict[str, str], producer: Plain, store: Store
) -> None:
    for task_id in stands.values():
        if Status(store.task(task_id)["status"]) in OPEN:
            with pytest.raises(REFUSED, match="cancel it first"):
                producer.execute("DELETE FROM task_queue WHERE id = ?", (task_id,))
        else:
            assert producer.execute("DELETE FROM task_queue WHERE id = ?", (task_id,)).rowcount == 1


def test_an_update_of_many_rows_is_refused_as_a_whole(
    stands: dict[str, str], producer: Plain, store: Store
) -> None:
    before = store.all("SELECT * FROM task_queue ORDER BY id")
    with pytest.raises(REFUSED):
        producer.execute("UPDATE task_queue SET status = 'pending'")
    assert store.all("SELECT * FROM task_queue ORDER BY id") == before


@pytest.mark.sqlite_only
def test_guards_hold_with_recursive_triggers_and_foreign_keys_on_as_well(
    stands: dict[str, str], producer: Plain, store: Store
) -> None:
    producer.execute("PRAGMA recursive_triggers = ON")
    producer.execute("PRAGMA foreign_keys = ON")
    before = store.task(stands["failed"])
    producer.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (before["id"],))
    assert _state(store.task(before["id"])) == step(_state(before), Event.RESUBMIT)
    with pytest.raises(REFUSED):
        producer.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (stands["completed"],))


def test_the_table_gives_no_counted_column_two_rules_in_one_pair_that_the_guard_could_not_tell() -> None:
    """A claim and a release both go through the guard by their columns: each pair's arrows must be tellable."""
    for source, target in itertools.product(Status, Status):
        for arrow in steps_between(source, target):
            assert arrow.rule("lease") in (Rule.SAME, Rule.PLUS_ONE)
            assert source not in FINAL or arrow.event in (Event.RESUBMIT, Event.SETTLE)
