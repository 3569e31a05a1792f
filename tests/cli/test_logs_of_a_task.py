"""A task's lines can be followed by its id through every process, and every process speaks the same format."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from supervisor.processes.launcher import PROGRAMS
from tests.support.fakes.remote_service import Plan, RemoteService, remote_type
from tests.support.houses.instant_house import INSTANT
from tests.support.running_system import running_system
from tests.support.waiting import eventually


def test_one_task_is_followed_through_web_dispatcher_and_worker_by_its_id_in_lines_of_one_format(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    with running_system(
        log=log, **INSTANT, LOG_LEVEL="debug", LOG_FORMAT="json", WORKER_PROCESSES="1"
    ) as house:
        task_id = house.order("instant")
        eventually("the attempt's end is logged", lambda: "attempt_ended" in house.said())
        eventually("the scheduler has spoken", lambda: '"part":"scheduler"' in house.said())
    written = log.read_text().splitlines()
    assert [line for line in written if not line.startswith("{")] == []
    lines = [json.loads(line) for line in written]
    assert [line["part"] for line in lines if line["event"].startswith("Starting Periodiq")] == ["scheduler"]
    assert {line["part"] for line in lines} == {"supervisor", "web", "dispatcher", "worker", "scheduler"}
    assert all(line["level"] and line["timestamp"].endswith("Z") for line in lines)

    ours = [line for line in lines if line.get("task") == task_id]
    seen = {(line["part"], line["event"].partition(" /")[0]) for line in ours}
    assert seen == {
        ("web", "POST"),
        ("dispatcher", "task_dispatched"),
        ("worker", "attempt_started"),
        ("worker", "ai_call_ended"),
        ("worker", "attempt_ended"),
    }
    for line in ours:
        if line["part"] == "worker":
            assert (line["lease"], line["attempt"], len(line["worker"])) == (1, 1, 26)
    assert not [line for line in lines if task_id in json.dumps(line) and line.get("task") != task_id]


MOST_BYTES_A_TASK = 512


def test_at_info_a_success_is_two_lines_that_say_who_ordered_and_what_became_of_it(tmp_path: Path) -> None:
    log, tasks = tmp_path / "log", 20
    with running_system(log=log, **INSTANT, LOG_LEVEL="info", LOG_FORMAT="json") as system:
        ids = [system.order("instant", user="o-1") for _ in range(tasks)]
        eventually("each end is logged", lambda: log.read_bytes().count(b"attempt_ended") >= tasks)
        undisturbed = {row[0] for row in system.sql("SELECT id FROM task_queue WHERE lease = 1")}
    assert undisturbed, "on a busy host a lease may be lost, and that is told too"
    ids = [task_id for task_id in ids if task_id in undisturbed]
    written = log.read_text().splitlines(keepends=True)
    for task_id in ids:
        accepted, ended = (json.loads(line) for line in written if task_id in line)
        assert (accepted["part"], accepted["user"], accepted["task"]) == ("web", "o-1", task_id)
        assert accepted["event"].startswith("POST /v1/tasks 202")
        said = {
            name: ended[name] for name in ("part", "event", "outcome", "type", "provider", "attempt", "lease")
        }
        assert said == {
            "part": "worker", "event": "attempt_ended", "outcome": "completed", "type": "instant",
            "provider": "instant", "attempt": 1, "lease": 1,
        }  # fmt: skip
        assert len(ended["worker"]) == 26 and ended["seconds"] >= 0 <= ended["waited_seconds"]
    of_tasks = sum(len(line.encode()) for line in written if any(task_id in line for task_id in ids))
    assert of_tasks / len(ids) <= MOST_BYTES_A_TASK


def test_at_info_a_remote_job_is_two_lines_too_whether_it_is_polled_or_reported(tmp_path: Path) -> None:
    log, tasks, turns = tmp_path / "log", 10, itertools.count()
    with (
        RemoteService(lambda order: Plan(seconds=0.5, reports=next(turns) % 2 == 0)) as service,
        running_system(
            log=log, **remote_type(service, "paint"), LOG_LEVEL="info", LOG_FORMAT="json"
        ) as system,
    ):
        ids = [system.order("paint", user="o-1") for _ in range(tasks)]
        assert [system.ends(task_id) for task_id in ids] == ["completed"] * tasks
        eventually("each end is logged", lambda: log.read_bytes().count(b"ai_call_ended") >= tasks)
    written = log.read_text().splitlines(keepends=True)
    for task_id in ids:
        accepted, ended = (json.loads(line) for line in written if task_id in line)
        assert accepted["event"].startswith("POST /v1/tasks 202")
        said = {name: ended[name] for name in ("event", "outcome", "type", "provider", "attempt")}
        assert said == {
            "event": "ai_call_ended", "outcome": "done", "type": "paint", "provider": "paint", "attempt": 1,
        }  # fmt: skip
        assert len(ended["worker"]) == 26 and ended["seconds"] >= 0 and ended["lease"] >= 1
    assert not [line for line in written if "/v1/callbacks/" in line]
    of_tasks = sum(len(line.encode()) for line in written if any(task_id in line for task_id in ids))
    assert of_tasks / tasks <= MOST_BYTES_A_TASK


@pytest.mark.parametrize(
    ("program", "part", "said"),
    [
        ("dramatiq", "worker", "exited unexpectedly"),  # by the parent process, which imports nothing of ours
        ("periodiq", "scheduler", "Starting Periodiq"),  # before it imports the part's code
    ],
)
def test_programs_that_are_not_ours_speak_our_format_before_they_import_anything_of_ours(
    program: str, part: str, said: str, tmp_path: Path
) -> None:
    arguments = (
        ["--processes", "1", "--skip-logging", "--worker-fork-timeout", "10"] if program == "dramatiq" else []
    )
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / program), "no_such_module", *arguments],
        env=os.environ | {"DARKROOM_LOG_FORMAT": "json", "DARKROOM_DATA_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["part"] for line in lines} == {part}
    assert [line for line in lines if said in line["event"]]


def test_the_log_of_a_failed_attempt_is_kept_with_its_task() -> None:
    refusing = {
        "TASKS__instant__PROVIDER": "refusing",
        "PROVIDERS__refusing__KIND": "python",
        "PROVIDERS__refusing__OPTIONS__class": "tests.support.providers.refusing_provider:RefusingProvider",
        "PROVIDERS__refusing__OPTIONS__says": "rejected",
        "LOG_LEVEL": "info",
        "WORKER_PROCESSES": "1",
    }
    with running_system(**refusing) as system:
        image = system.upload_sample()
        system.sql(
            "INSERT INTO task_queue (id, user_openid, type, params)"
            f""" VALUES ('t-1', 'demo', 'instant', '{{"images":["{image}"]}}')"""
        )
        failed = "SELECT 1 FROM task_queue WHERE id = 't-1' AND status = 'failed'"
        eventually("it has failed", lambda: system.sql(failed))
        with urllib.request.urlopen(f"{system.url}/v1/ops/tasks/t-1", timeout=30) as answer:
            seen = json.load(answer)
        (kept,) = seen["logs"]
        assert (kept["attempt"], kept["lease"]) == (1, 1) and kept["worker"]
        told = "\n".join(kept["lines"])
        assert "attempt_failed" in told and "This is not to our taste." in told
        assert "waited_seconds" in told and "provider=refusing" in told
        assert "\x1b" not in told


def test_a_scheduler_that_was_forked_with_our_code_imported_keeps_to_the_log_level(tmp_path):
    """periodiq sets a level of its own when it starts."""
    code = """
import sys, logging
import actors, periodiq
from supervisor.processes.launcher import enter
periodiq.Scheduler.schedule = lambda self: None
periodiq.Scheduler.loop = lambda self: print(logging.getLogger().level, flush=True)
sys.argv = ["periodiq", "actors"]
enter("periodiq")
"""
    environ = os.environ | {
        "DARKROOM_CONFIG": "",
        "DARKROOM_DATA_DIR": str(tmp_path),
        "DARKROOM_LOG_LEVEL": "warning",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=90
    )
    assert (done.stdout.strip(), done.stderr) == (str(logging.WARNING), "")
