"""The last week a row a minute, the log of attempts, and dead letters with their reasons."""

from __future__ import annotations

import collections
import json
import types
from collections.abc import Callable
from typing import Any

import pytest

from actors.attempts.attempt import with_lines
from supervisor.core.claim import Claim
from supervisor.objects.open_store import open_file_store
from supervisor.services import sweep as sweeping
from supervisor.store.operators import attempt_logs, dead_letters, overview, week_history
from supervisor.store.recovery import sweep_runs
from supervisor.telemetry import attempt_lines
from tests.conftest import Clock, Store
from tests.support.workers import complete


def note(store: Store, minute: str, program: str = "1 a") -> None:
    store.write(lambda tx: week_history.note(tx, minute, program))


def read(store: Store, hours: int = 168) -> Any:
    return store.database.read(lambda tx: week_history.read(tx, hours))


def minute_of(store: Store) -> str:
    return str(store.database.read(lambda tx: tx.value(f"SELECT {tx.as_text(tx.now)}")))[:16]


def test_the_sweep_writes_the_minute_in_the_commit_that_ends_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = open_file_store(store.settings)
    ended: list[int] = []
    real = week_history.note

    def noting(tx: Any, minute: str, program: str) -> None:
        ended.append(tx.value("SELECT count(*) FROM sweep_run WHERE finished_at IS NOT NULL"))
        real(tx, minute, program)

    monkeypatch.setattr(week_history, "note", noting)
    assert sweeping.sweep_this_minute(store.database, store.settings, files) is not None
    assert ended == [1]  # the end of the run is seen before it is committed: one transaction
    (row,) = store.all("SELECT minute, program FROM minute_history")
    run = store.database.read(sweep_runs.last)
    assert run is not None and row["minute"] == run["minute"] and len(row["program"].split()) == 2


def test_what_has_happened_between_two_rows_is_told(
    store: Store,
    clock: Clock,
    claimed_task: Callable[..., Claim],
    failed_task: Callable[..., str],
    admitted_task: Callable[..., str],
) -> None:
    failed_task()
    note(store, minute_of(store))  # what was before is no rise
    clock.advance(60)
    done, still = claimed_task("o-1", count=3), claimed_task("o-2")
    made = [{"key": f"results/{done.task_id}-{n}.jpg", "width": 4, "height": 3} for n in range(3)]
    store.write(lambda tx: complete(tx, done.task_id, done.lease, made))
    failed_task("o-3")
    admitted_task("o-4", count=2)
    note(store, minute_of(store), "1 b")
    seen = read(store, 1)
    first, last = seen["points"]
    assert (first["completed"], first["failed"], first["credits"]) == (0, 0, 0)
    assert (last["pending"], last["running"], last["completed"], last["failed"]) == (1, 1, 1, 1)
    assert last["credits"] == 3 + 1 + 0 + 2  # a failed one is refunded
    assert last["wait_seconds"] is None or last["wait_seconds"] >= 0
    assert seen["deploys"] == [{"at": last["at"], "program": "1 b"}]
    assert store.task(still.task_id)["status"] == "processing"


def test_a_sum_that_begins_again_counts_from_zero(store: Store) -> None:
    first, then = {"waits": 10.0}, {"waits": 3.0}
    assert week_history._risen(then["waits"], first["waits"]) == 3.0
    assert week_history._risen(5.0, None) == 0.0


def test_a_row_is_kept_for_a_week_and_a_minute_is_written_once(store: Store, clock: Clock) -> None:
    note(store, minute_of(store))
    note(store, minute_of(store), "2 b")
    assert [row["program"] for row in store.all("SELECT program FROM minute_history")] == ["1 a"]
    clock.advance(168 * 3600 + 120)
    note(store, minute_of(store))
    assert len(store.all("SELECT minute FROM minute_history")) == 1
    assert len(read(store)["points"]) == 1


def test_a_whole_week_is_drawn_in_few_points(store: Store) -> None:
    now = minute_of(store)
    store.write(
        lambda tx: tx.execute(
            f"""INSERT INTO minute_history (minute, pending, running, stuck, oldest_seconds, waits, wait_seconds,
                completed, failed, credits, entry_id, costs, program)
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
            SELECT substr({tx.as_text(tx.in_seconds("((i - 10000) * 60.0)"))}, 1, 16), i % 7, 0, 0, 0, i, i * 2.0, i, 0,
                i, 0, {tx.as_json("'{}'")}, 'x' FROM n"""
        )
    )
    seen = read(store)
    assert 300 < len(seen["points"]) <= week_history.MOST_POINTS + 2 and now
    assert sum(each["completed"] for each in seen["points"]) == 9999
    assert {each["wait_seconds"] for each in seen["points"]} == {2.0}
    assert max(each["pending"] for each in seen["points"]) == 6


def test_dead_letters_have_their_reasons(store: Store, failed_task: Callable[..., str], clock: Clock) -> None:
    failed_task()
    clock.advance(8 * 86_400)
    newest = [failed_task(f"o-{n}") for n in range(3)][-1]
    store.write(
        lambda tx: dead_letters.note_refused_order(
            tx, "m-1", {"a": "\x00" * 500}, 7, "There is no type 7." * 99
        )
    )
    seen = store.database.read(lambda tx: dead_letters.read(tx, store.settings))
    (tasks,) = seen["tasks"]
    assert (tasks["type"], tasks["code"], tasks["count"]) == ("photography", "invalid_input", 3)
    assert tasks["message"] == "This can't be made." and tasks["last_task"] == newest
    (order,) = seen["orders"]
    assert order["type"] == "7" and len(order["reason"]) == 500 and order["user_openid"].isprintable()
    assert seen["webhooks"] == []
    clock.advance(8 * 86_400)
    assert store.write(lambda tx: dead_letters.prune(tx, 10)) == 1


def test_failures_of_a_type_that_no_setting_names_are_seen(
    store: Store, pending_task: Callable[..., str]
) -> None:
    """A program that writes rows has misspelled it."""
    task_id = pending_task(type_="photograpy")
    store.admit_waiting()
    (dead,) = store.database.read(lambda tx: dead_letters.read(tx, store.settings))["tasks"]
    (failures,) = store.database.read(lambda tx: overview.failures(tx, store.settings))
    assert dead["type"] == failures["type"] == "photograpy"
    assert dead["code"] == failures["code"] == "unknown_type" and failures["last_task"] == task_id


def test_the_log_of_an_attempt_is_kept_once_and_pruned(store: Store, clock: Clock) -> None:
    for lines in (["a", "b"], ["late"]):
        store.write(lambda tx, told=lines: attempt_logs.add(tx, "t-1", 3, 2, "w-1", told))  # type: ignore[misc]
    (kept,) = store.database.read(lambda tx: attempt_logs.of_task(tx, "t-1"))
    assert (kept["attempt"], kept["lease"], kept["lines"]) == (2, 3, ["a", "b"])
    clock.advance(100)
    assert store.write(lambda tx: attempt_logs.prune(tx, 60, 10)) == 1


def test_lines_are_short_and_show_no_picture() -> None:
    with attempt_lines.keeping("t-1", 1) as lines:
        for n in range(30):
            attempt_lines.note({"task": "t-1", "lease": 1}, f"line {n}")
        attempt_lines.note({"task": "t-2", "lease": 1}, "another task's")
        attempt_lines.note({"task": "t-1", "lease": 2}, "another claim's")
        attempt_lines.note({"event": "nobody's"}, "x")
        picture = "data:image/png;base64," + "iVBORw0KGgo" * 40
        attempt_lines.note({"task": "t-1", "lease": 1}, f"\x1b[31mit said {picture} and more\x1b[0m")
        attempt_lines.note({"task": "t-1", "lease": 1}, "begin " + "a word " * 900 + "the cause")
        assert len(lines) == attempt_lines.MOST_LINES
        assert lines[-2] == "it said … and more"
        assert lines[-1].startswith("begin ") and lines[-1].endswith("the cause") and len(lines[-1]) < 1300
        assert json.dumps(list(lines)).count("another") == 0
        attempt_lines.note({"task": "t-1", "lease": 1}, "a NUL \x00 and half a pair \ud800")
        assert lines[-1] == "a NUL \ufffd and half a pair \ufffd"
    attempt_lines.note({"task": "t-1", "lease": 1}, "after its end")
    assert len(lines) == attempt_lines.MOST_LINES


@pytest.mark.parametrize(
    ("outcome", "is_kept"),
    [
        ("completed", False),
        ("handed_off", False),
        ("postponed", False),
        ("released", False),
        ("failed", True),
        ("retried", True),
    ],
)
def test_only_a_failed_attempt_keeps_its_log(
    store: Store, claimed_task: Callable[..., Claim], outcome: str, is_kept: bool
) -> None:
    claim = claimed_task()

    def step(tx: Any) -> None:
        pass

    step.__name__ = outcome
    worker: Any = types.SimpleNamespace(id="w-1")
    recorded = with_lines(worker, claim, step, collections.deque(["it began", "it broke"]))
    assert recorded is not None and recorded.__name__ == outcome
    store.write(recorded)
    kept = store.database.read(lambda tx: attempt_logs.of_task(tx, claim.task_id))
    assert [each["lines"] for each in kept] == ([["it began", "it broke"]] if is_kept else [])
