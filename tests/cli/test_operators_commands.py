"""Commands for operators on the database itself: many tasks, one user; a killed action goes on."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Store
from tests.support.command_line import PROGRAM, darkroom, environ_of
from tests.support.waiting import eventually

Run = Callable[..., subprocess.CompletedProcess[str]]


def _where(store: Store) -> dict[str, str]:
    return {"DARKROOM_DATABASE_URL": store.settings.database_url}


@pytest.fixture
def run(store: Store) -> Run:
    """Runs a command on the test's database, which must end with this status."""

    def run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = darkroom(store.settings.data_dir, *words, **_where(store))
        assert done.returncode == status, done.stderr
        return done

    return run


def test_many_are_shown_first_and_then_retried(
    store: Store, run: Run, failed_task: Callable[..., str]
) -> None:
    ids = {failed_task(f"o-{n}") for n in range(4)}
    seen = json.loads(run("bulk", "retry", "--code", "invalid_input", "--dry-run", "--json").stdout)
    assert (seen["count"], seen["credits"]) == (4, 4)
    assert store.value("SELECT count(*) FROM bulk_action") == 0
    told = run("bulk", "retry", "--code", "invalid_input", status=130)  # nobody says yes
    assert "would concern 4 tasks" in told.stdout
    done = json.loads(run("bulk", "retry", "--code", "invalid_input", "--yes", "--json").stdout)
    assert (done["state"], done["done"], done["role"]) == ("done", 4, "command")
    assert all(store.task(task_id)["charge"] == 2 for task_id in ids)
    (listed,) = json.loads(run("bulk", "list", "--json").stdout)
    assert listed["id"] == done["id"]
    assert "4 done" in run("bulk", "show", done["id"]).stdout
    assert "There is no action" in run("bulk", "show", "none", status=1).stderr
    assert "at least one condition" in run("bulk", "cancel", "--yes", status=2).stderr


def test_where_none_matches_nothing_is_asked_or_begun(
    store: Store, run: Run, admitted_task: Callable[..., str]
) -> None:
    told = run("bulk", "retry", "--code", "nonsense").stdout
    assert "would concern no tasks" in told and "TASK" not in told
    assert json.loads(run("bulk", "retry", "--code", "nonsense", "--json").stdout)["count"] == 0
    assert store.value("SELECT count(*) FROM bulk_action") == 0
    admitted_task("o-7")
    told = run("bulk", "release", "--user", "o-7", "--dry-run").stdout
    assert "would concern 1 task; nobody pays again" in told


def test_a_killed_action_goes_on_and_no_task_is_met_twice(
    store: Store, run: Run, failed_task: Callable[..., str]
) -> None:
    ids = {failed_task(f"o-{n % 9}") for n in range(60)}
    words = [*PROGRAM, "bulk", "retry", "--code", "invalid_input", "--yes"]
    environ = environ_of(store.settings.data_dir, **_where(store))
    running = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def done() -> int:
        return int(store.value("SELECT coalesce(max(done), 0) FROM bulk_action"))

    eventually("some are done", lambda: done() > 0 or running.poll() is not None)
    running.send_signal(signal.SIGKILL)
    running.wait(60)
    assert 0 < done() <= 60
    (bulk_id,) = [row["id"] for row in store.all("SELECT id FROM bulk_action")]
    ended = json.loads(run("bulk", "resume", bulk_id, "--json").stdout)
    assert (ended["state"], ended["done"], ended["refused"], ended["passed"]) == ("done", 60, 0, 0)
    rows = store.all("SELECT target, count(*) AS n FROM audit WHERE action = 'retry' GROUP BY target")
    assert {row["target"]: int(row["n"]) for row in rows} == dict.fromkeys(ids, 1)
    assert store.value("SELECT count(*) FROM credit_entry WHERE kind = 'debit' AND charge = 2") == 60


def test_a_user_is_blocked_and_unblocked_on_record(store: Store, run: Run) -> None:
    stands = json.loads(run("block", "o-7", "--reason", "stolen card", "--json").stdout)
    assert (stands["user"], stands["reason"]) == ("o-7", "stolen card")
    assert "no longer blocked" in run("unblock", "o-7").stdout
    assert "is not blocked" in run("unblock", "o-7", status=1).stderr
    assert "one line" in run("block", "o-7", "--reason", "a\nb", status=2).stderr
    rows = store.all("SELECT action, target, role, operator FROM audit ORDER BY id")
    assert [(row["action"], row["target"], row["role"]) for row in rows] == [
        ("block", "o-7", "command"),
        ("unblock", "o-7", "command"),
    ]
    assert all("@" in row["operator"] for row in rows)


def test_a_user_is_shown(store: Store, run: Run, admitted_task: Callable[..., str]) -> None:
    task_id = admitted_task("o-7")
    run("block", "o-7", "--reason", "stolen card")
    seen = json.loads(run("user", "o-7", "--json").stdout)
    assert (seen["balance"], seen["open"][0]["task_id"], seen["block"]["reason"]) == (
        99,
        task_id,
        "stolen card",
    )
    told = run("user", "o-7").stdout
    assert (
        task_id in told
        and "stolen card" in told
        and "open tasks      1 of 20" in told
        and "-1  debit" in told
    )
    assert "was never seen" in run("user", "o-9", status=1).stderr


def test_what_the_command_line_does_to_tasks_and_users_is_recorded(
    store: Store, run: Run, admitted_task: Callable[..., str]
) -> None:
    task_id = admitted_task()
    run("cancel", task_id)
    run("retry", task_id)
    run("credits", "grant", "o-7", "5", "--reference", "x")
    run("token", "revoke", "o-7")
    run("token", "revoke", "--id", "01KB7Q4W1XKQ7Y9V6J3T5M2N8P")
    run("sweep")
    rows: list[Any] = store.all("SELECT action, kind, target FROM audit ORDER BY id")
    assert [(row["action"], row["kind"], row["target"]) for row in rows] == [
        ("cancel", "task", task_id),
        ("retry", "task", task_id),
        ("grant", "user", "o-7"),
        ("revoke", "user", "o-7"),
        ("revoke", "token", "01KB7Q4W1XKQ7Y9V6J3T5M2N8P"),
        ("sweep", "sweep", "now"),
    ]


def test_a_repeated_grant_is_no_second_record(store: Store, run: Run) -> None:
    run("credits", "grant", "o-7", "5", "--reference", "x")
    run("credits", "grant", "o-7", "5", "--reference", "x", status=1)
    assert store.balance("o-7") == 105 and store.value("SELECT count(*) FROM audit") == 1
