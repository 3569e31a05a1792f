"""Causes that once held tasks up unseen: each has a trouble on /ops, and a sentence in the delayed task's diagnosis."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from actors.attempts.outcomes import after_error
from actors.attempts.record import step_of
from actors.providers.base import ProviderDown, RateLimited
from config.provider import Provider
from supervisor.core.claim import Claim
from supervisor.core.rescue import Budget
from supervisor.database.open_database import open_database
from supervisor.health.troubles import Trouble, troubles
from supervisor.objects import disk_space
from supervisor.processes.host_state import clock_ahead_seconds, look_around, troubled_disks
from supervisor.processes.process_states import state_path, stopped_up
from supervisor.remote.breaker import Sign
from supervisor.store.limits import notices, providers
from supervisor.store.limits.notices import Notice
from supervisor.store.operators import database_space, overview, task_details
from supervisor.store.queue import workers
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import claims, history, remote_wait, user_actions
from tests.conftest import Clock, Store
from tests.support.databases import Plain, is_postgres
from tests.support.diagnoses import why
from tests.support.servers.postgres_server import server
from tests.support.waiting import eventually
from tests.support.well import Well, ask

AROUND = {"processes": [], "is_broker_up": True, "dispatcher": "d-1", "judge": "dispatcher"}
STUDIO = Provider(kind="studio")


def told(store: Store, **more: Any) -> dict[str, Trouble]:
    """{code: trouble}; the house itself is well, and swept."""
    seen = store.database.read(lambda tx: overview.read(tx, store.settings))
    found = troubles({**seen, **AROUND, **more})
    return {each["code"]: each for each in found if each["code"] != "sweep_none"}


def changed(store: Store, **limits: int) -> Store:
    settings = store.settings.model_copy(update={"limits": store.settings.limits.model_copy(update=limits)})
    return Store(settings, store.database)


@pytest.fixture
def postponed(store: Store, claimed_task: Callable[..., Claim]) -> Callable[..., str]:
    """Put back by an error of its service; its id."""

    def make(error: Exception, user: str = "o-7") -> str:
        claim = claimed_task(user)
        outcome = after_error(Budget(0, 0, 3), error, may_bill_twice=True, chance=0.0)
        store.write(step_of(claim, outcome, ""))
        return claim.task_id

    return make


def test_a_service_that_answers_429_is_named_and_its_tasks_say_why_they_wait(
    store: Store, postponed: Callable[..., str], clock: Clock
) -> None:
    limited = RateLimited("The AI service says: 429 Too Many Requests.", wait_seconds=40)
    task_id = [postponed(limited, f"o-{n}") for n in range(3)][-1]
    found = told(store)["rate_limited"]
    assert (found["subject"], found["values"]["count"]) == ("studio", 3)
    assert "429 Too Many Requests" in found["text"]
    reason = why(store, task_id)
    assert reason["code"] == "pending.rate_limited" and "429 Too Many Requests" in reason["text"]
    events = store.database.read(lambda tx: history.timeline(tx, task_id))
    assert events is not None
    steps = [each["event"] for each in events if each["event"] == "postponed"]
    assert steps == ["postponed"], "written once, with its reason"
    assert events[-1]["error"]["code"] == "rate_limited" and events[-1]["run_after"] is not None
    clock.advance(61)
    assert "rate_limited" not in told(store), "it is over"


def test_a_postponement_is_counted_by_its_reason(store: Store, postponed: Callable[..., str]) -> None:
    postponed(RateLimited("slow down"))
    postponed(ProviderDown("wrong key"), "o-8")
    counted = store.all("SELECT labels FROM metric WHERE name = 'darkroom_postponed_total' ORDER BY labels")
    if not counted:  # not folded yet
        counted = store.all(
            "SELECT labels FROM metric_delta WHERE name = 'darkroom_postponed_total' ORDER BY labels"
        )
    assert [row["labels"] for row in counted] == [
        '{"reason":"provider_down","type":"photography"}',
        '{"reason":"rate_limited","type":"photography"}',
    ]


def test_an_open_breaker_says_since_when_and_why_and_keeps_both_while_it_is_tried(
    store: Store, clock: Clock
) -> None:
    def note(sign: Sign, reason: str, probe: int | None = None) -> None:
        store.write(
            lambda tx: providers.note(tx, "studio", sign, probe=probe, wait_seconds=10, reason=reason)
        )

    for n in range(3):
        note(Sign.TROUBLE, f"The AI service answered 500 ({n}).")
    found = told(store)["provider_trouble"]
    assert found["values"]["troubles"] == 3 and "answered 500 (2)" in found["text"]
    note(Sign.DOWN, "The key is wrong.")
    opened = told(store)["provider_down"]
    assert "The key is wrong." in opened["text"] and opened["values"]["since_at"] in opened["text"]
    clock.advance(700)
    probe = store.write(lambda tx: providers.take_room(tx, "studio", STUDIO.limits, probe_seconds=60))
    note(Sign.DOWN, "The key is still wrong.", probe)
    again = told(store)["provider_down"]
    assert again["values"]["since_at"] == opened["values"]["since_at"], "down since the first time"
    assert again["values"]["open_seconds"] >= 700 and "still wrong" in again["text"]
    clock.advance(3000)
    probe = store.write(lambda tx: providers.take_room(tx, "studio", STUDIO.limits, probe_seconds=60))
    note(Sign.WELL, "", probe)
    assert {"provider_down", "provider_trouble"}.isdisjoint(told(store))


def test_a_type_with_failing_tasks_is_reported_whether_they_cost_or_not(
    store: Store, failed_task: Callable[..., str], completed_task: Callable[..., str], producer: Plain
) -> None:
    completed_task()
    for n in range(4):
        failed_task(f"o-{n}")
    assert "type_fails" not in told(store), "four are few"
    failed_task("o-4")
    found = told(store)["type_fails"]
    assert (found["subject"], found["values"]["failed"], found["values"]["ended"]) == ("photography", 5, 6)
    assert "This can't be made." in found["text"] and found["level"] == "bad"
    for n in range(5):
        completed_task(f"o-{n}")
    assert "type_fails" not in told(store), "most succeed"


def test_rejected_orders_are_no_failures_of_their_type_but_their_users_lack_credits(
    store: Store, producer: Plain
) -> None:
    for _ in range(6):
        producer.execute(
            "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-poor', 'photography', ?)",
            ('{"images":["https://example.org/p.jpg"],"count":8}',),
        )
    store.write(lambda tx: tx.execute("UPDATE rule SET signup_grant = 1"))
    poor = store.settings.model_copy(
        update={"tasks": {**store.settings.tasks, "photography": store.settings.tasks["photography"].model_copy(
            update={"cost_credits": 1000})}})  # fmt: skip
    Store(poor, store.database).admit_waiting()
    found = told(store)
    assert "type_fails" not in found
    assert (found["no_credits"]["subject"], found["no_credits"]["values"]["times"]) == ("o-poor", 6)


def test_a_full_queue_is_reported(store: Store, admitted_task: Callable[..., str], clock: Clock) -> None:
    tight = changed(store, pending_tasks=2)
    admitted_task("o-1")
    assert "queue_full" not in told(tight)
    admitted_task("o-2")
    assert told(tight)["queue_full"]["level"] == "bad"
    roomy = changed(store, pending_tasks=3)
    store.write(lambda tx: notices.add(tx, {(Notice.QUEUE_FULL, notices.EVERYBODY): 7}))
    found = told(roomy)
    assert "queue_full" not in found, "two of three wait: no order is refused now"
    was_full = found["queue_was_full"]
    assert (was_full["level"], was_full["values"]) == ("warn", {"pending": 2, "limit": 3, "times": 7})
    clock.advance(61)
    assert "queue_was_full" not in told(roomy)


def test_a_client_that_floods_us_is_named_until_it_stops(store: Store, clock: Clock) -> None:
    store.write(
        lambda tx: notices.add(tx, {(Notice.FEED_OPENED, "o-storm"): 500, (Notice.FEED_OPENED, "o-2"): 1})
    )
    store.write(lambda tx: notices.add(tx, {(Notice.FEED_OPENED, "o-storm"): 40}))
    found = told(store)["user_storms"]
    assert (found["subject"], found["values"]["times"]) == ("o-storm", 540)
    assert "storms us (feeds opened too often)" in found["text"]
    clock.advance(61)
    assert "user_storms" not in told(store)
    clock.advance(notices.EPISODE_SECONDS)
    store.write(lambda tx: notices.add(tx, {(Notice.FEED_OPENED, "o-storm"): 3}))
    assert told(store)["user_storms"]["values"]["times"] == 3, "an episode of its own"
    clock.advance(notices.FORGET_SECONDS + 1)
    assert store.write(notices.forget_old) == 2


def test_users_who_lack_credits_or_have_too_many_tasks_are_counted_and_the_first_is_named(
    store: Store,
) -> None:
    counted = {(Notice.OPEN_TASKS, "o-1"): 2, (Notice.OPEN_TASKS, "o-2"): 9, (Notice.NO_CREDITS, "o-3"): 1}
    store.write(lambda tx: notices.add(tx, counted))
    found = told(store)
    assert "(users: 2)" in found["user_limit"]["text"] and found["user_limit"]["subject"] == "o-2"
    assert found["no_credits"]["subject"] == "o-3"
    assert store.database.read(lambda tx: notices.users_of_late(tx, 60)) == {"open_tasks": 2, "no_credits": 1}


def died(store: Store, claim: Claim) -> None:
    store.write(lambda tx: claims.release(tx, claim.task_id, claim.lease, died=True))


def test_the_task_under_which_workers_die_is_named_and_is_not_said_to_wait_for_a_slot(
    store: Store, claimed_task: Callable[..., Claim], live_worker: Callable[..., str]
) -> None:
    claim = claimed_task("o-7")
    died(store, claim)
    assert "deadly_task" not in told(store), "one death may be anything's fault"
    for _ in range(2):
        (again,) = store.dispatch()
        died(store, again)
    found = told(store)["deadly_task"]
    assert (found["subject"], found["values"]["deaths"], found["values"]["most_deaths"]) == (
        claim.task_id,
        3,
        6,
    )
    reason = why(store, claim.task_id, position=0)
    assert reason["code"] == "pending.suspect" and "No free slot helps" in reason["text"]


def test_a_task_behind_a_limit_shows_which(
    store: Store, claimed_task: Callable[..., Claim], admitted_task: Callable[..., str]
) -> None:
    claimed_task("o-7")
    waiting = admitted_task("o-7")
    tight = changed(store, running_tasks_per_user=1)
    reason = why(tight, waiting, position=0)
    assert reason["code"] == "pending.user_limit" and "RUNNING_TASKS_PER_USER 1" in reason["text"]
    narrow = store.settings.tasks["photography"].model_copy(update={"max_running": 1})
    one_at_a_time = store.settings.model_copy(
        update={"tasks": {**store.settings.tasks, "photography": narrow}}
    )
    reason = why(Store(one_at_a_time, store.database), admitted_task("o-8"), position=1)
    assert reason["code"] == "pending.type_limit" and "MAX_RUNNING 1" in reason["text"]
    assert why(store, waiting, position=0)["code"] == "pending.unknown"
    assert why(store, waiting, position=0, eta_seconds=4)["code"] == "pending"


def test_a_task_is_not_said_to_be_on_its_way_while_no_worker_runs(
    store: Store, admitted_task: Callable[..., str], handed_off_task: Callable[..., str]
) -> None:
    waiting, remote = admitted_task("o-7"), handed_off_task("o-8")
    frozen = {"is_dispatcher_fresh": False, "dispatcher_silent_seconds": 40.0}
    assert "the last beat was 40 s ago" in why(store, waiting, frozen)["text"]
    assert why(store, waiting, {"takes_tasks": False})["code"] == "pending.no_workers"
    assert why(store, waiting, {"is_broker_up": False})["code"] == "pending.no_broker"
    assert why(store, remote, {"takes_tasks": False})["code"] == "ai_processing.nobody"


def test_a_task_that_its_worker_has_not_received_is_not_said_to_be_worked_on(
    store: Store, claimed_task: Callable[..., Claim], clock: Clock
) -> None:
    """The broker went away as its claim was sent; the heartbeat that finds the row comes later."""
    claim = claimed_task()
    assert why(store, claim.task_id)["code"] == "processing", (
        "its worker's next beat will report that it has begun"
    )
    found = why(store, claim.task_id, {"is_broker_up": False})
    assert found["code"] == "processing.unbegun" and "not reported yet that it has begun" in found["text"]
    store.write(lambda tx: claims.mark_begun(tx, [claims.Begun(claim.task_id, claim.lease, 0.0, 630.0)]))
    assert why(store, claim.task_id, {"is_broker_up": False})["code"] == "processing"


def test_a_claim_not_begun_for_longer_than_a_beat_is_not_said_to_be_worked_on(
    store: Store, claimed_task: Callable[..., Claim], clock: Clock
) -> None:
    claim = claimed_task()
    clock.advance(7)
    assert why(store, claim.task_id)["code"] == "processing.unbegun"


def test_a_silent_workers_task_is_not_promised_to_another_while_the_dispatcher_is_silent_too(
    store: Store, claimed_task: Callable[..., Claim], clock: Clock
) -> None:
    claim = claimed_task("o-7")
    begun = claims.Begun(claim.task_id, claim.lease, 0.0, 630.0)
    store.write(lambda tx: claims.mark_begun(tx, [begun]))
    clock.advance(30)
    assert why(store, claim.task_id)["code"] == "processing.silent"
    silent = {"is_dispatcher_fresh": False, "dispatcher_silent_seconds": 30.0}
    assert why(store, claim.task_id, silent)["code"] == "processing.unjudged"


def test_polls_are_nothing_new(store: Store, handed_off_task: Callable[..., str], clock: Clock) -> None:
    task_id = handed_off_task("o-7")
    Well(store, clock)
    for _ in range(33):
        clock.advance(60)
        store.write(lambda tx: workers.beat(tx, "worker-1", 0))
        ask(store.write, task_id)
    found = store.database.read(lambda tx: task_details.examine(tx, store.settings, task_id))
    assert found is not None and found["task"]["unchanged_seconds"] == pytest.approx(33 * 60, abs=20)
    unmoved = told(store)["remote_unmoved"]
    assert (unmoved["subject"], unmoved["values"]["count"]) == (task_id, 1) and "33 min" in unmoved["text"]


def test_progress_of_a_remote_job_is_something_new(
    store: Store, polled_task: Callable[..., tuple[str, int]], clock: Clock
) -> None:
    task_id, lease = polled_task("o-7")
    clock.advance(700)
    assert "remote_unmoved" in told(store)
    store.write(lambda tx: remote_wait.not_yet(tx, task_id, lease, 30, progress=40))
    assert "remote_unmoved" not in told(store)


def test_a_task_that_hangs_is_reported_as_soon_as_it_is_unusual_for_its_type(
    store: Store, completed_task: Callable[..., str], claimed_task: Callable[..., Claim], clock: Clock
) -> None:
    claim = claimed_task("o-7")
    store.write(lambda tx: remote_jobs.begin(tx, claim, "studio", STUDIO, 0))
    clock.advance(20)
    assert "no_progress" not in told(store), "nothing is known of how long they take"
    for n in range(5):
        completed_task(f"o-{n}")
    assert told(store)["no_progress"]["subject"] == claim.task_id


def test_troubles_around_the_database_are_reported(store: Store) -> None:
    full = {"path": "/data", "text": "The disk under /data is full; make room.", "is_full": True}
    found = told(
        store, disks=[full], hears_changes=False, clock_ahead_seconds=90.0,
        running=[{"task_id": "t-1", "status": "processing", "type": "fitting", "unchanged_seconds": 3.0,
                  "stage": "waiting for the file store"}],
    )  # fmt: skip
    assert {"disk_full", "feed_deaf", "clock_ahead", "no_room"} <= set(found)
    assert found["no_room"]["text"].startswith("Running tasks are waiting for the file store (1), t-1 first")
    assert "90 s ahead" in found["clock_ahead"]["text"] or "2 min ahead" in found["clock_ahead"]["text"]
    assert "clock_behind" in told(store, clock_ahead_seconds=-3.0)


def test_a_disk_without_room_is_reported_once_and_one_without_inodes_is_full(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data folder and the files in it lie on one disk."""
    assert list(troubled_disks(store.settings)) == []
    real = os.statvfs

    def without_inodes(path: Any) -> Any:
        told = list(real(path))
        told[7] = 0  # f_favail
        return os.statvfs_result(told)

    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", without_inodes)
        (found,) = troubled_disks(store.settings)
    assert found["is_full"] and "no inodes are left" in found["text"]
    monkeypatch.setattr(disk_space, "FULL_BYTES", 1 << 60)
    monkeypatch.setattr(disk_space, "LEAST_BYTES", 1 << 60)
    (found,) = troubled_disks(store.settings)
    assert found["path"] == str(store.settings.data_dir)
    text = told(store, disks=[found])["disk_full"]["text"]
    assert text.endswith(
        " is full; make room. Until then nothing is accepted and nothing finishes; nothing is lost."
    )


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_stopped_up_is_reported_before_a_part_is_missing(store: Store) -> None:
    """Parts continue without it, and a part that ends is not started again."""
    with subprocess.Popen(["/bin/sleep", "600"]) as up:
        try:
            state = {"supervisor": {"pid": up.pid}, "processes": []}
            state_path(store.settings.data_dir).write_text(json.dumps(state))
            assert stopped_up(store.settings.data_dir) is None
            up.send_signal(signal.SIGSTOP)
            eventually("it is stopped", lambda: stopped_up(store.settings.data_dir) == up.pid)
            found = told(store, **look_around(store.settings))["up_stopped"]
        finally:
            up.kill()
    assert found["level"] == "bad" and f"`kill -CONT {up.pid}` lets it go on" in found["text"]
    assert stopped_up(store.settings.data_dir) is None


def test_a_server_that_takes_no_writes_is_reported(store: Store) -> None:
    if not is_postgres(store.settings):
        assert database_space.refusal(store.database) is None
        return
    name = str(store.value("SELECT current_database()"))
    assert database_space.refusal(store.database) is None
    with server().admin() as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
        try:
            locked = open_database(store.settings)
            try:
                refuses = database_space.refusal(locked)
            finally:
                locked.close()
        finally:
            admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
    assert refuses == "read_only"
    assert (
        "is a standby, or was made read-only"
        in told(store, database_refuses=refuses)["database_read_only"]["text"]
    )


def test_a_clock_is_off_only_by_what_the_round_trip_leaves_no_doubt_about() -> None:
    noon = 1_800_000_000.0
    theirs = "2027-01-15T08:00:00.000Z"
    assert clock_ahead_seconds(theirs, noon - 1, noon + 1) == 0
    assert clock_ahead_seconds(theirs, noon + 90, noon + 91) == pytest.approx(90)
    assert clock_ahead_seconds(theirs, noon - 91, noon - 90) == pytest.approx(-90)


def test_the_cancelled_task_of_a_deadly_kind_is_no_trouble_any_more(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task("o-7")
    died(store, claim)
    (again,) = store.dispatch()
    died(store, again)
    assert "deadly_task" in told(store)
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))
    assert "deadly_task" not in told(store)
