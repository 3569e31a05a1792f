"""Rescue on a whole running system, with real processes, real signals and a provider that dies on request."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from supervisor.core.errors import LeaseLost
from supervisor.database.sqlite.sqlite_database import SqliteDatabase
from supervisor.processes.process_states import lives
from supervisor.store.tasks import claims
from tests.support.chaos.chaos_house import ChaosHouse
from tests.support.waiting import eventually
from tests.support.workers import complete, report_progress

LEASE_SECONDS = 4  # instead of 15, so that silence is proven soon


class Studio(ChaosHouse):
    """A system with types that each fail in their own way, and a test's questions about it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.notes = folder / "notes"
        self.notes.touch()
        self.gates = folder / "gates"
        self.gates.mkdir()
        super().__init__(folder, self._settings() | settings)
        self.start()
        self.image = self.upload_sample()
        self._orders = 0

    def _settings(self) -> dict[str, str]:
        settings = {
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "CREDITS__SIGNUP_GRANT": "1000",
            "LIMITS__OPEN_TASKS_PER_USER": "0",
            "LIMITS__RUNNING_TASKS_PER_USER": "0",
            "TASKS__limited__TIME_LIMIT_SECONDS": "2",
            "TASKS__limited__AI_TIMEOUT_SECONDS": "1",
            "TASKS__limited__MAX_ATTEMPTS": "1",
            "TASKS__poison__MAX_ATTEMPTS": "2",
        }
        for type_, options in {
            "quick": {},
            "held": {"gates": str(self.gates)},
            "endless": {"wait_seconds": "500"},
            "limited": {"wait_seconds": "500"},
            "poison": {"die_at": "start"},
            "stored": {"die_at": "complete"},
            "blocking": {"class": "tests.support.providers.faulty_provider:BlockingProvider"},
        }.items():
            settings[f"TASKS__{type_}__PROVIDER"] = type_
            settings[f"PROVIDERS__{type_}__KIND"] = "python"
            settings[f"PROVIDERS__{type_}__MAY_BILL_TWICE"] = "true"
            options = {
                "class": "tests.support.providers.faulty_provider:FaultyProvider",
                "notes": str(self.notes),
            } | options
            settings |= {f"PROVIDERS__{type_}__OPTIONS__{name}": value for name, value in options.items()}
        return settings

    def order(self, type_: str) -> str:
        """A new task's id, ordered by plain SQL."""
        self._orders += 1
        task = f"{type_}-{self._orders}"
        params = json.dumps({"images": [self.image]})
        sql = "INSERT INTO task_queue (id, user_openid, type, params) VALUES (?, 'demo', ?, ?)"
        self.all(sql, task, type_, params)
        return task

    def noted(self, task: str, what: str) -> int:
        return self.notes.read_text().splitlines().count(f"{task} {what}")

    def let_end(self, task: str) -> None:
        """A job of type `held` ends no sooner than this is said."""
        (self.gates / task).touch()

    def at_work(self, task: str) -> psutil.Process:
        """The worker process in which the task's provider is being asked just now."""
        eventually(f"{task} is at work", lambda: self.task(task)["progress"] == 50)
        return self.worker_of(task)

    def worker_state(self, worker: psutil.Process) -> str:
        return str(self.all("SELECT state FROM worker WHERE pid = ?", worker.pid)[0]["state"])

    def first_attempt_has_lasted(self, task: str, seconds: int) -> None:
        """As if the first attempt were so old, and the dispatcher had been well all the while.

        A clock that is set ahead does neither: it counts as a step, and the healthy time starts again from zero.
        On a busy machine that time may begin anew by itself too, so a test asks for this until it has its effect.
        """

        def earlier(column: str, by: int) -> str:
            return f"{column} = strftime('%Y-%m-%dT%H:%M:%fZ', {column}, '-{by} seconds')"

        eventually("we are well", lambda: self.all("SELECT well_since FROM dispatcher")[0]["well_since"])
        self.all(f"UPDATE dispatcher SET {earlier('well_since', seconds + 1000)}")
        moved = ", ".join(earlier(column, seconds) for column in ("processing_started_at", "deadline_at"))
        self.all(f"UPDATE task_queue SET {moved} WHERE id = ? AND lease = 1 AND status = 'processing'", task)

    def ended(self, task: str, status: str) -> sqlite3.Row:
        self.reaches(task, status)
        return self.task(task)


@contextlib.contextmanager
def opened(**settings: str) -> Iterator[Studio]:
    folder = Path(tempfile.mkdtemp(prefix="dk-rescue-"))
    studio = None
    try:
        studio = Studio(folder, **settings)
        yield studio
    finally:
        if studio is not None:
            studio.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[Studio]:
    with opened() as studio:
        yield studio


@pytest.fixture
def studio(shared: Studio) -> Studio:
    """The shared house, whole again after what the last test did to it."""
    eventually("everybody is back", shared.all_ready)
    return shared


def test_kill_9_in_the_middle_of_a_task_runs_it_again_at_once_and_charges_once(studio):
    task = studio.order("held")
    worker = studio.at_work(task)
    worker.kill()
    eventually("it is claimed again", lambda: studio.task(task)["lease"] == 2)
    studio.let_end(task)
    row = studio.ended(task, "completed")
    assert (row["attempt"], row["lease"], row["deaths"], row["failures"]) == (2, 2, 1, 0)
    assert studio.booked(task) == [("debit", -1)]
    assert (studio.noted(task, "call"), studio.noted(task, "done")) == (2, 1)


def test_a_frozen_workers_task_runs_elsewhere_and_when_it_wakes_its_writes_are_refused(studio):
    task = studio.order("held")
    frozen = studio.at_work(task)
    by_whom = studio.task(task)["worker_id"]
    frozen.suspend()
    eventually("it runs elsewhere", lambda: studio.task(task)["lease"] == 2)
    row = studio.task(task)
    assert row["worker_id"] != by_whom and row["status"] == "processing"

    database = SqliteDatabase(studio.database)
    late = (
        lambda tx: complete(tx, task, 1, []),
        lambda tx: claims.fail(tx, task, 1, "internal", "late"),
        lambda tx: claims.retry(tx, task, 1, 1.0),
        lambda tx: claims.postpone(tx, task, 1, 1.0),
        lambda tx: claims.release(tx, task, 1),
    )
    for write in late:
        with pytest.raises(LeaseLost):
            database.write_now(write)
    assert database.write_now(lambda tx: report_progress(tx, task, 1, 99, "late")) is False
    database.close()

    with contextlib.suppress(
        psutil.NoSuchProcess
    ):  # its supervisor may have killed it by now, as a silent one
        frozen.resume()
    eventually("the woken process has ended", lambda: not frozen.is_running())
    eventually(
        "its end is told",
        lambda: re.search("worker_ends|is killed: it shows no life", studio.said()),
    )
    studio.let_end(task)
    row = studio.ended(task, "completed")
    assert (row["attempt"], row["lease"], row["deaths"], row["failures"]) == (2, 2, 1, 0)
    assert studio.booked(task) == [("debit", -1)]
    ends = "SELECT count(*) FROM work_change WHERE json_extract(doc, '$.status') = 'completed' AND doc_id = ?"
    assert studio.all(ends, row["work_id"])[0][0] == 1
    assert studio.all("SELECT state FROM worker WHERE id = ?", by_whom)[0]["state"] in ("dead", "gone")


def test_frozen_parts_are_killed_and_started_again_and_work_continues(studio):
    """Any part is frozen, or all at once: the system recovers without a person."""
    task = studio.order("held")
    studio.at_work(task)
    before = {name: part["pid"] for name, part in studio.parts().items()}
    assert set(before) == {"broker", "worker-1", "worker-2", "dispatcher", "web", "scheduler"}
    for pid in before.values():
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            process.suspend()

    def are_back() -> bool:
        state = studio.parts()
        return all(
            state[name]["state"] == "ready" and state[name]["pid"] != pid for name, pid in before.items()
        )

    eventually("all have been started again", are_back)
    said = studio.said()  # a part that was back before the broker was killed has ended once more since
    assert not [name for name in before if f"{name} is killed: it shows no life" not in said]
    studio.let_end(task)
    studio.ended(task, "completed")
    studio.ended(studio.order("quick"), "completed")


def test_sigterm_during_20_running_tasks_loses_nothing_and_counts_no_attempt():
    with opened(DRAIN_SECONDS="2") as studio:
        tasks = [studio.order("endless") for _ in range(20)]
        running = "SELECT count(*) FROM task_queue WHERE status = 'processing' AND progress = 50"
        eventually("all 20 are at work", lambda: studio.all(running)[0][0] == 20)
        assert studio.stop(90) == 0
        assert not studio.left_behind()
        for row in map(studio.task, tasks):
            assert (row["status"], row["attempt"], row["failures"], row["deaths"]) == ("pending", 1, 0, 0)
            assert studio.booked(row["id"]) == [("debit", -1)]

        studio.environ["DARKROOM_PROVIDERS__endless__OPTIONS__wait_seconds"] = "0.1"
        studio.start()
        for task in tasks:
            row = studio.ended(task, "completed")
            assert (row["attempt"], row["failures"], row["deaths"]) == (2, 0, 0)
            assert studio.booked(task) == [("debit", -1)]


def test_the_cancel_of_a_running_task_stops_its_work_and_refunds(studio):
    task = studio.order("endless")
    worker = studio.at_work(task)
    studio.darkroom("cancel", task, check=True)
    assert studio.task(task)["status"] == "cancelled"
    assert studio.booked(task) == [("debit", -1), ("refund", 1)]
    eventually("its work has stopped", lambda: studio.noted(task, "cancelled") == 1)
    assert worker.is_running() and studio.all_ready()


def test_work_that_takes_too_long_is_stopped_and_refunded_when_no_attempt_is_left(studio):
    task = studio.order("limited")
    row = studio.ended(task, "failed")
    assert (studio.error_code(task), row["attempt"], row["failures"]) == ("ai_timeout", 1, 1)
    assert studio.booked(task) == [("debit", -1), ("refund", 1)]
    eventually("its work has stopped", lambda: studio.noted(task, "cancelled") == 1)


def test_a_task_whose_workers_keep_dying_ends_as_worker_died_with_its_refund(studio):
    poison = studio.order("poison")
    row = studio.ended(poison, "failed")
    assert (studio.error_code(poison), row["deaths"], row["failures"]) == ("worker_died", 4, 0)
    assert studio.booked(poison) == [("debit", -1), ("refund", 1)]
    assert studio.noted(poison, "call") == 4
    assert studio.ended(studio.order("quick"), "completed")["attempt"] == 1


def test_pictures_that_were_stored_before_the_crash_are_not_made_again(studio):
    task = studio.order("stored")
    row = studio.ended(task, "completed")
    assert (row["attempt"], row["deaths"]) == (2, 1)
    assert studio.noted(task, "call") == 1
    (stored,) = studio.all("SELECT key FROM result_file WHERE task_id = ?", task)
    (shown,) = json.loads(row["images"])
    assert shown["key"] == stored["key"] == f"results/{task}/1-1-0.jpg"  # made under the first lease
    assert studio.booked(task) == [("debit", -1)]


def test_two_sweeps_at_once_rescue_a_task_past_its_deadline_once(studio):
    task = studio.order("endless")
    studio.at_work(task)
    try:

        def two_sweeps_have_rescued_it() -> bool:
            studio.first_attempt_has_lasted(task, 1000)  # above TIME_LIMIT_SECONDS and the grace
            with ThreadPoolExecutor(2) as pool:
                for sweep in [pool.submit(studio.darkroom, "sweep") for _ in range(2)]:
                    assert sweep.result().returncode == 0, sweep.result().stderr
            return bool(studio.task(task)["failures"])

        eventually("two sweeps at once have rescued it", two_sweeps_have_rescued_it)
        assert (studio.task(task)["failures"], studio.task(task)["deaths"]) == (1, 0)
        eventually("the late attempt is stopped", lambda: studio.noted(task, "cancelled") == 1)
        eventually("it runs again", lambda: studio.task(task)["attempt"] == 2)
        rescued = (
            "SELECT sum(value) FROM metric WHERE name = 'darkroom_rescues_total' AND labels LIKE '%deadline%'"
        )
        assert studio.all(rescued)[0][0] == 1
        assert studio.booked(task) == [("debit", -1)]
    finally:
        studio.darkroom("cancel", task)


def test_a_killed_up_is_followed_by_one_that_finishes_the_work(studio):
    task = studio.order("held")
    studio.at_work(task)
    assert studio.collapse() < 8
    studio.start()
    studio.let_end(task)
    row = studio.ended(task, "completed")
    assert (row["attempt"], row["failures"]) == (2, 0)
    assert studio.booked(task) == [("debit", -1)]


def test_sigterm_to_one_worker_lets_its_task_finish_there(studio):
    task = studio.order("held")
    worker = studio.at_work(task)
    os.kill(worker.pid, signal.SIGTERM)
    eventually("it drains", lambda: studio.worker_state(worker) == "draining")
    studio.let_end(task)
    row = studio.ended(task, "completed")
    assert (row["attempt"], row["lease"], row["deaths"]) == (1, 1, 0)
    eventually("the drained worker has ended", lambda: not worker.is_running())


def test_code_that_blocks_the_event_loop_costs_its_process_and_the_task_runs_elsewhere(studio):
    task = studio.order("blocking")
    eventually("it is claimed", lambda: studio.task(task)["lease"] == 1)
    blocked = studio.worker_of(task)
    eventually("the blocked process is ended", lambda: not blocked.is_running())
    row = studio.ended(task, "completed")
    assert (row["attempt"], row["deaths"], row["failures"]) == (2, 1, 0)
    eventually("everybody is back", studio.all_ready)


def test_a_dead_worker_that_is_still_a_zombie_is_known_to_be_dead():
    process = subprocess.Popen(["true"])
    eventually("it has ended", lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert not lives(process.pid)
    process.wait()
