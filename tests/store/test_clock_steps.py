"""A clock that was set back: nothing waits for hours, no slot stays taken, users' own times stay (CORRECTNESS 47)."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from actors.broker.broker import DarkroomBroker
from actors.dispatcher.dispatcher import Dispatcher
from config.provider import Provider, ProviderLimits
from supervisor.broker.claim_lists import ClaimLists
from supervisor.core.claim import Claim
from supervisor.core.errors import ProviderIsDown
from supervisor.database.open_wakeups import dispatch_wakeups
from supervisor.objects.open_store import open_file_store
from supervisor.remote.breaker import Sign
from supervisor.services.sweep import sweep, sweep_this_minute
from supervisor.store.counters import counters
from supervisor.store.limits import providers
from supervisor.store.operators import overview, task_details
from supervisor.store.queue import dispatch, leader
from supervisor.store.recovery import clock_steps, sweep_runs
from supervisor.store.remote import remote_cancels, remote_jobs
from supervisor.store.tasks import claims, remote_wait, user_actions
from supervisor.store.webhooks import deliveries
from supervisor.store.webhooks.deliveries import Delivery
from tests.conftest import Clock, Store, wait_until
from tests.support.quiet_broker import QuietBroker
from tests.support.workers import complete, free_slots, report_progress

BACK = -7200.0
PAID = Provider(kind="http", may_bill_twice=False)

Make = Callable[..., str]


@pytest.fixture
def seconds_until(store: Store) -> Callable[..., float]:
    """From the database's now to a time of one row."""

    def find(column: str, table: str, where: str = "1 = 1") -> float:
        return float(
            store.database.read(
                lambda tx: tx.value(f"SELECT {tx.seconds_between(tx.now, column)} FROM {table} WHERE {where}")
            )
        )

    return find


def set_right(store: Store) -> None:
    """The dispatcher's work when its ticks show a step, and the following sweep."""
    store.write(clock_steps.take_back_early)
    store.write(clock_steps.set_right)


@pytest.mark.parametrize("poll_in", [5.0, 300.0, 1800.0], ids=["soon", "seldom", "Retry-After"])
def test_a_poll_is_as_far_away_as_it_was_meant(
    poll_in: float,
    store: Store,
    clock: Clock,
    handed_off_task: Make,
    seconds_until: Callable[..., float],
) -> None:
    handed_off_task(poll_in_seconds=poll_in)
    clock.advance(BACK)
    set_right(store)
    assert seconds_until("next_poll_at", "task_queue") == pytest.approx(poll_in, abs=20)
    assert seconds_until("remote_deadline_at", "task_queue") == pytest.approx(3600, abs=20)
    before = store.all("SELECT * FROM task_queue")
    set_right(store)
    assert store.all("SELECT * FROM task_queue") == before, "correct times are left alone"


def test_a_poll_that_is_out_is_due_again_in_time(
    store: Store,
    clock: Clock,
    polled_task: Callable[..., tuple[str, int]],
    seconds_until: Callable[..., float],
) -> None:
    polled_task()
    clock.advance(BACK)
    set_right(store)
    assert seconds_until("next_poll_at", "task_queue") == pytest.approx(330, abs=20)


@pytest.mark.parametrize("ends_as", ["answered", "given back"])
def test_a_remote_limit_is_as_far_away_as_it_was_meant_though_a_poll_ended_after_the_step(
    ends_as: str,
    store: Store,
    clock: Clock,
    polled_task: Callable[..., tuple[str, int]],
    seconds_until: Callable[..., float],
) -> None:
    task_id, lease = polled_task()
    clock.advance(BACK)
    if ends_as == "answered":
        store.write(lambda tx: remote_wait.not_yet(tx, task_id, lease, 30))
    else:
        assert store.write(lambda tx: remote_wait.ask_again(tx, task_id, lease))
    set_right(store)
    assert seconds_until("remote_deadline_at", "task_queue") == pytest.approx(3600, abs=60)
    assert seconds_until("next_poll_at", "task_queue") < 60
    before = store.all("SELECT * FROM task_queue")
    set_right(store)
    assert store.all("SELECT * FROM task_queue") == before, "correct times are left alone"


def test_a_pause_after_a_failure_is_kept_and_a_users_own_time_stays(
    store: Store,
    clock: Clock,
    claimed_task: Callable[..., Claim],
    admitted_task: Make,
    seconds_until: Callable[..., float],
) -> None:
    claim = claimed_task("o-1")
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 120))
    at = (clock.now() + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    later = admitted_task("o-2", run_after=at)
    clock.advance(BACK)
    set_right(store)
    assert seconds_until("run_after", "task_queue", f"id = '{claim.task_id}'") == pytest.approx(120, abs=20)
    assert store.task(later)["run_after"] == at
    clock.advance(130)
    assert store.write(dispatch.ripen) == 1


def test_an_attempts_deadline_is_its_whole_time_away(
    store: Store,
    clock: Clock,
    claimed_task: Callable[..., Claim],
    seconds_until: Callable[..., float],
) -> None:
    claimed_task()
    clock.advance(BACK)
    set_right(store)
    assert seconds_until("deadline_at", "task_queue") == pytest.approx(630, abs=20)


def test_a_task_whose_time_is_ahead_again_keeps_no_slot(
    store: Store, clock: Clock, admitted_task: Make, live_worker: Make
) -> None:
    live_worker(slots=1)
    at = (clock.now() + datetime.timedelta(seconds=50)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    early = admitted_task("o-1", run_after=at)
    clock.advance(60)
    assert store.write(dispatch.ripen) == 1
    clock.advance(-60)
    other = admitted_task("o-2")
    assert free_slots(store) == 1
    assert [claim.task_id for claim in store.dispatch()] == [other]
    assert store.write(clock_steps.take_back_early) == 1
    row = store.task(early)
    assert (row["ready"], row["run_after"]) == (0, at)
    clock.advance(60)
    assert store.write(dispatch.ripen) == 1


def test_a_breaker_is_open_as_long_as_it_was_meant(
    store: Store, clock: Clock, seconds_until: Callable[..., float]
) -> None:
    store.write(lambda tx: providers.note(tx, "ai", Sign.DOWN, probe=None, wait_seconds=60.0))
    clock.advance(BACK)
    set_right(store)
    assert seconds_until("until", "provider_state") == pytest.approx(60, abs=20)
    clock.advance(90)
    limits = ProviderLimits()
    assert store.write(lambda tx: providers.take_room(tx, "ai", limits, probe_seconds=30)) == 1
    clock.advance(BACK)
    set_right(store)
    with pytest.raises(ProviderIsDown):
        store.write(lambda tx: providers.take_room(tx, "ai", limits, probe_seconds=30))
    assert seconds_until("until", "provider_state") == pytest.approx(30, abs=20)


def test_a_breaker_of_an_older_release_is_open_for_its_longest(
    store: Store, clock: Clock, seconds_until: Callable[..., float]
) -> None:
    store.write(lambda tx: providers.note(tx, "ai", Sign.DOWN, probe=None, wait_seconds=60.0))
    store.write(lambda tx: tx.execute("UPDATE provider_state SET moved_at = NULL"))
    clock.advance(BACK)
    set_right(store)
    assert seconds_until("until", "provider_state") == pytest.approx(600, abs=20)


def test_a_bucket_of_requests_fills_again(store: Store, clock: Clock) -> None:
    limits = ProviderLimits(rps=1.0)
    store.write(lambda tx: providers.take_room(tx, "ai", limits, probe_seconds=30))
    clock.advance(BACK)
    set_right(store)
    clock.advance(2)
    store.write(lambda tx: providers.take_room(tx, "ai", limits, probe_seconds=30))


def test_a_place_at_a_service_is_given_back_and_a_cancel_sent_in_time(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim], seconds_until: Callable[..., float]
) -> None:
    lost, unwanted = claimed_task("o-1"), claimed_task("o-2")
    for claim in (lost, unwanted):
        evidence = store.write(
            lambda tx, claim=claim: remote_jobs.begin(tx, claim, "ai", PAID, 0, pictures=(0,))
        )
        if claim is unwanted:
            store.write(lambda tx, evidence=evidence: remote_jobs.accepted(tx, evidence, "remote-1"))
        store.write(lambda tx, claim=claim: user_actions.cancel(tx, claim.task_id))
    assert len(store.write(lambda tx: remote_cancels.due_cancels(tx).get())) == 1
    clock.advance(BACK)
    set_right(store)
    assert seconds_until("cancel_due_at", "remote_job", "cancel_due_at IS NOT NULL") < 310
    clock.advance(remote_jobs.STALE_SECONDS + 1)
    assert store.write(remote_jobs.close_stale) == 1


@pytest.mark.parametrize("wished", [5.0, 20_000.0], ids=["the schedule's next step", "Retry-After"])
def test_a_webhook_is_sent_again_when_it_was_meant(
    wished: float,
    store: Store,
    clock: Clock,
    claimed_task: Callable[..., Claim],
    seconds_until: Callable[..., float],
) -> None:
    claim = claimed_task()
    store.write(lambda tx: deliveries.name(tx, [(claim.task_id, "https://example.org/hook")]))
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))
    clock.advance(BACK)
    set_right(store)
    (delivery,) = store.write(
        lambda tx: deliveries.due(tx).get()
    )  # the first attempt is due at once, whatever the clock does
    clock.advance(BACK)
    set_right(store)
    assert seconds_until("due_at", "webhook_delivery") <= deliveries.CLAIM_SECONDS
    (message,) = store.write(lambda tx: deliveries.claim(tx, [Delivery(delivery.id, delivery.dispatch)]))
    store.write(lambda tx: deliveries.put_off(tx, message, wished, status=503, reason="It answered 503."))
    clock.advance(BACK)
    set_right(store)
    assert seconds_until("due_at", "webhook_delivery") == pytest.approx(wished, abs=20)


def test_minutes_that_come_again_are_swept_again(store: Store, clock: Clock) -> None:
    files = open_file_store(store.settings)
    clock.advance(60 - clock.now().second)
    assert sweep_this_minute(store.database, store.settings, files) is not None
    clock.advance(60)
    assert sweep_this_minute(store.database, store.settings, files) is not None
    clock.advance(-60)
    set_right(store)
    last = store.database.read(sweep_runs.last)
    assert last is None or last["started_at"] <= clock.now().isoformat()
    clock.advance(60)
    assert sweep_this_minute(store.database, store.settings, files) is not None


# The reasons why such a time, hours ahead, delays nothing.
HARMLESS = {
    "task_queue": {
        "expires_at": "it is EXPIRE_SECONDS after the order: the task has as much longer as the clock was ahead",
        "created_at": "it is shown, and breaks ties of order",
        "finished_at": "it is shown, and the row is kept as much longer",
        "dispatched_at": "no program reads it any more",
    },
    "works": {"created_at": "it is shown", "updated_at": "it is shown"},
    "account": {"created_at": "it is shown", "blocked_at": "it is shown; any time at all means blocked"},
    "attempt_log": {"at": "it is shown, and the lines are kept longer"},
    "bulk_action": {
        "created_at": "it is shown",
        "updated_at": "it is shown, and the action is kept longer",
        "finished_at": "it is shown",
    },
    "refused_order": {"at": "it is shown; the oldest are pruned by their ids"},
    "provider_cost": {"created_at": "it is shown, and sums of a time begin with it"},
    "credit_entry": {"created_at": "it is shown"},
    "work_change": {"created_at": "the log is pruned in the order of seq"},
    "worker": {"started_at": "it is shown", "seen_at": "silence is counted by beats and a monotonic clock"},
    "image": dict.fromkeys(("created_at", "used_at", "expired_at"), "the photo is kept longer"),
    "result_file": {"created_at": "the file is kept longer"},
    "task_step": {"finished_at": "it is shown"},
    "remote_job": {"created_at": "its service is asked more often while the job is younger than nothing"},
    "sweep_run": {"finished_at": "its row goes by started_at"},
    "dispatcher": {
        "ticked_at": "a tick in the future is no young one, and the next tick is now",
        "well_since": "the next tick finds the step, and begins anew",
    },
    "idempotency_key": {"created_at": "the key is kept longer"},
    "remote_report": {"created_at": "the report is kept longer", "read_at": "the report is kept longer"},
    "doomed_file": {"doomed_at": "the file is kept longer"},
    "webhook_delivery": {"created_at": "it is shown", "ended_at": "the delivery is kept longer"},
    "webhook_gone": {"since": "the receiver itself has answered that it is gone; it is removed later"},
    "webhook_attempt": dict.fromkeys(("started_at", "ended_at", "next_at"), "it is shown"),
    "task_event": {"at": "it is shown", "run_after": "it is shown"},
    "audit": {"at": "it is shown"},
    "pause": {"at": "it is shown"},
    "commit_mark": {"marked_at": "the mark is kept longer"},
    "cut_order": {
        "cut_at": "an order that was cut in the future is taken over by nobody, and forgotten later"
    },
    "token_revocation": {"revoked_at": "tokens that are no older stay revoked"},
}


@pytest.mark.postgresql_only  # whose columns of times have a type of their own; the names are the same
def test_every_stored_time_is_set_right_or_delays_nothing(store: Store) -> None:
    """Set a new column of a time right here, or give the reason above why it delays nothing."""
    stored = {
        (row["table_name"], row["column_name"])
        for row in store.all(
            """SELECT table_name, column_name FROM information_schema.columns
                WHERE table_schema = current_schema() AND data_type = 'timestamp with time zone'"""
        )
    }
    listening = Listening()
    store.write(lambda tx: clock_steps.set_right(cast(Any, listening.to(tx))))
    harmless = {(table, name) for table, names in HARMLESS.items() for name in names}
    assert stored - harmless == listening.moved & stored
    assert harmless <= stored


class Listening:
    """Notes which columns a step would change, and changes nothing."""

    def __init__(self) -> None:
        self.moved: set[tuple[str, str]] = set()
        self._tx: Any = None

    def to(self, tx: Any) -> Listening:
        self._tx = tx
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def run(self, statement: str) -> int:
        table, names = _changed(statement)
        self.moved.update((table, name) for name in names)
        return 0


def _changed(statement: str) -> tuple[str, list[str]]:
    """The table and the columns that are set; for a deleted row, the time that decided it."""
    if deleted := re.match(r"DELETE FROM (\w+) WHERE (\w+)", statement):
        return deleted[1], [deleted[2]]
    updated = re.match(r"UPDATE (\w+) SET (.*?)\sWHERE ", statement, re.DOTALL)
    assert updated is not None, statement
    return updated[1], re.findall(r"(\w+) = ", updated[2])


def test_a_small_step_moves_nothing(store: Store, clock: Clock, handed_off_task: Make) -> None:
    handed_off_task(poll_in_seconds=60)
    before = store.all("SELECT * FROM task_queue")
    clock.advance(-2)
    set_right(store)
    assert store.all("SELECT * FROM task_queue") == before


def test_the_sweep_sets_right_what_the_dispatcher_has_missed(
    store: Store, clock: Clock, handed_off_task: Make, seconds_until: Callable[..., float]
) -> None:
    handed_off_task(poll_in_seconds=60)
    clock.advance(BACK)
    sweep(store.database, store.settings, open_file_store(store.settings))
    assert seconds_until("next_poll_at", "task_queue") == pytest.approx(60, abs=20)


def test_a_dispatcher_finds_the_step_in_its_own_ticks(
    store: Store, clock: Clock, handed_off_task: Make, seconds_until: Callable[..., float]
) -> None:
    dispatcher = Dispatcher(
        store.settings,
        store.database,
        cast(DarkroomBroker, QuietBroker()),
        dispatch_wakeups(store.database, store.settings),
        cast(ClaimLists, QuietBroker()),
    )
    handed_off_task(poll_in_seconds=60)
    dispatcher.run_once()
    since = store.database.read(leader.well_since)
    assert since != leader.NEVER
    clock.advance(BACK)

    def has_ticked() -> bool:
        dispatcher.run_once()
        return store.database.read(leader.well_since) < since

    wait_until(has_ticked, "it has ticked since")
    assert seconds_until("next_poll_at", "task_queue") == pytest.approx(60, abs=20)


@pytest.mark.parametrize("days", [-400, 400], ids=["behind", "ahead"])
def test_a_process_whose_own_clock_is_wrong_judges_nothing_by_it(
    days: float,
    store: Store,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    admitted_task: Make,
    claimed_task: Callable[..., Claim],
    handed_off_task: Make,
    seconds_until: Callable[..., float],
) -> None:
    """Times that SQL compares come from the database (CORRECTNESS 35)."""
    wrong = time.time() + 86_400 * days
    monkeypatch.setattr(time, "time", lambda: wrong)
    monkeypatch.setattr(time, "time_ns", lambda: int(wrong * 1e9))
    at = (clock.now() + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    held, waits = claimed_task("o-1"), admitted_task("o-2", run_after=at)
    store.write(lambda tx: deliveries.name(tx, [(held.task_id, "https://example.org/hook")]))
    remote = handed_off_task("o-3", poll_in_seconds=60)
    store.write(lambda tx: providers.note(tx, "ai", Sign.DOWN, probe=None, wait_seconds=60.0))
    swept = sweep(store.database, store.settings, open_file_store(store.settings))
    assert not any(swept.values()), swept
    of_held, of_remote = (f"id = '{task_id}'" for task_id in (held.task_id, remote))
    assert seconds_until("deadline_at", "task_queue", of_held) == pytest.approx(630, abs=60)
    assert seconds_until("next_poll_at", "task_queue", of_remote) == pytest.approx(60, abs=60)
    assert seconds_until("until", "provider_state") == pytest.approx(60, abs=60)
    assert store.write(dispatch.ripen) == 0 and store.write(lambda tx: deliveries.due(tx).get()) == []
    store.write(lambda tx: user_actions.cancel(tx, held.task_id))
    assert len(store.write(lambda tx: deliveries.due(tx).get())) == 1
    clock.advance(130)
    assert [poll.task_id for poll in store.claim_polls()] == [remote]
    assert store.write(lambda tx: providers.take_room(tx, "ai", ProviderLimits(), probe_seconds=30)) == 1
    clock.advance(3600)
    assert store.write(dispatch.ripen) == 1 and store.task(waits)["ready"] == 1
    clock.advance(2 * 86_400)
    assert sweep(store.database, store.settings, open_file_store(store.settings))["failed"] == 1
    assert store.task(waits)["status"] == "failed", "it has expired"


def test_nothing_is_reported_as_of_the_future(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    store.write(lambda tx: report_progress(tx, claim.task_id, claim.lease, 10, "drawing"))
    clock.advance(BACK)
    examined = store.database.read(lambda tx: task_details.examine(tx, store.settings, claim.task_id))
    assert examined is not None and examined["task"]["unchanged_seconds"] == 0
    assert examined["worker"]["silent_seconds"] == 0
    (running,) = store.database.read(overview.running)
    assert running["running_seconds"] == running["unchanged_seconds"] == 0
    store.write(lambda tx: complete(tx, claim.task_id, claim.lease, []))
    sums = [
        values["sum"]
        for (name, _), values in store.database.read(counters.read_all).items()
        if name == "darkroom_task_run_seconds"
    ]
    assert sums == [0]
