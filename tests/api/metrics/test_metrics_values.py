"""The values of /metrics agree with a real database, in every process and after any restart of web."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from metrics.exposition import Exposition
from supervisor.store.counters import counters
from supervisor.store.queue import workers
from supervisor.store.recovery import stuck_tasks, sweep_runs
from supervisor.store.tasks import admission, claims, user_actions
from supervisor.store.webhooks import deliveries
from tests.support.houses.metrics_shop import WORKER, Shop, open_shop
from tests.support.well import ask
from tests.support.workers import complete


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path) as shop:
        yield shop


def test_open_tasks_are_counted_by_type_and_status(shop: Shop) -> None:
    shop.worker(slots=10)
    shop.handed_off_task()
    shop.claimed_task("fitting")
    shop.pending_task()
    shop.completed_task()
    shop.pending_task(run_after="2099-01-01T00:00:00.000Z")
    told = shop.scrape()
    assert told("darkroom_tasks", type="photography", status="pending") == 2
    assert told("darkroom_tasks", type="photography", status="ai_processing") == 1
    assert told("darkroom_tasks", type="fitting", status="processing") == 1
    assert told("darkroom_tasks", type="fitting", status="pending") == 0
    assert told("darkroom_queue_depth", type="photography") == 1  # the other is not due
    assert told("darkroom_running_tasks", type="photography") == 1  # ai_processing
    assert told("darkroom_running_tasks", type="fitting") == 1


def test_rows_of_plain_sql_count_before_anybody_admits_them(shop: Shop) -> None:
    for run_after in (None, "2099-01-01T00:00:00.000Z"):
        shop.sql(
            "INSERT INTO task_queue (user_openid, type, params, run_after) VALUES ('o', 'fitting', '{}', ?)",
            run_after,
        )
    shop.wait(70)
    told = shop.scrape()
    assert told("darkroom_tasks", type="fitting", status="pending") == 2
    assert told("darkroom_queue_depth", type="fitting") == 1
    assert told("darkroom_oldest_pending_seconds", type="fitting") == pytest.approx(70, abs=30)


class TestTheOldestPendingTask:
    """By the database's clock, which the tests move."""

    def test_waits_since_it_was_submitted(self, shop: Shop) -> None:
        shop.pending_task()
        shop.wait(40)
        told = shop.scrape()
        assert told("darkroom_oldest_pending_seconds", type="photography") == pytest.approx(40, abs=30)
        assert told("darkroom_oldest_pending_seconds", type="fitting") == 0

    def test_does_not_wait_before_its_time(self, shop: Shop) -> None:
        shop.pending_task(run_after=shop.write(lambda tx: tx.value(f"SELECT {tx.in_seconds('200')}")))
        shop.wait(140)
        assert shop.scrape()("darkroom_oldest_pending_seconds", type="photography") == 0
        shop.wait(100)
        told = shop.scrape()
        assert told("darkroom_oldest_pending_seconds", type="photography") == pytest.approx(40, abs=30)
        assert told("darkroom_queue_depth", type="photography") == 1

    def test_waits_anew_when_it_is_put_back_or_resubmitted(self, shop: Shop) -> None:
        shop.worker()
        failed, put_back = shop.failed_task(), shop.claimed_task()
        shop.wait(1000)
        shop.write(lambda tx: user_actions.resubmit(tx, shop.settings, failed))
        shop.wait(100)
        shop.write(lambda tx: claims.release(tx, put_back, shop.leases[put_back]))
        shop.wait(100)
        told = shop.scrape()
        assert told("darkroom_oldest_pending_seconds", type="photography") == pytest.approx(200, abs=30)

    @pytest.mark.parametrize("seed", range(5))
    def test_is_found_whatever_else_waits(self, shop: Shop, seed: int) -> None:
        """The search ends early; here it is compared with a look at every row."""
        chance = random.Random(seed)
        shop.worker(slots=100)
        for _ in range(chance.randint(1, 12)):
            shop.wait(20 * chance.randint(1, 60))
            match chance.choice(["new", "later", "put back", "retried", "failed"]):
                case "new":
                    shop.pending_task()
                case "later":
                    due = shop.write(
                        lambda tx: tx.value(f"SELECT {tx.in_seconds(str(20 * chance.randint(-60, 60)))}")
                    )
                    shop.pending_task(run_after=due)
                case "put back":
                    task_id = shop.claimed_task()
                    shop.write(lambda tx, id_=task_id: claims.release(tx, id_, shop.leases[id_]))
                case "retried":
                    task_id = shop.claimed_task()
                    shop.write(lambda tx, id_=task_id: claims.retry(tx, id_, shop.leases[id_], 30))
                case "failed":
                    task_id = shop.failed_task()
                    shop.write(lambda tx, id_=task_id: user_actions.resubmit(tx, shop.settings, id_))
        assert shop.scrape()("darkroom_oldest_pending_seconds", type="photography") == pytest.approx(
            self.by_a_look_at_every_row(shop), abs=15
        )

    def by_a_look_at_every_row(self, shop: Shop) -> float:
        now = datetime.fromisoformat(shop.write(lambda tx: tx.value(f"SELECT {tx.now}")))
        waits = []
        for row in shop.write(lambda tx: tx.all("SELECT * FROM task_queue WHERE status = 'pending'")):
            is_new = row["attempt"] == 0 and row["charge"] == 1
            since = max(row["created_at"] if is_new else row["updated_at"], row["run_after"] or "")
            waits.append((now - datetime.fromisoformat(since)).total_seconds())
        return max([wait for wait in waits if wait >= 0], default=0.0)


def test_the_stuck_gauge_is_what_rescue_takes(shop: Shop) -> None:
    shop.worker(slots=20)
    doomed = shop.worker("01JBBBBBBBBBBBBBBBBBBBBBBB", slots=20)
    for _ in range(2):
        shop.claimed_task(worker=doomed)
    for _ in range(3):
        shop.claimed_task(deadline_seconds=10)
    remote = shop.handed_off_task(remote_limit_seconds=10)
    shop.claimed_task()
    for _ in range(4):
        shop.claimed_task(is_begun=False)
    assert not shop.scrape().nonzero("darkroom_stuck_tasks")

    shop.write(lambda tx: workers.mark_dead(tx, doomed))
    shop.wait(30)
    told = shop.scrape()
    stuck = {
        reason: int(told("darkroom_stuck_tasks", reason=reason))
        for reason in ("dead_worker", "deadline", "undelivered", "remote_overdue")
    }
    assert stuck == {"dead_worker": 2, "deadline": 3, "undelivered": 4, "remote_overdue": 1}
    ask(shop.write, remote, worker=WORKER)
    assert shop.rescue() == {reason: n for reason, n in stuck.items() if reason != "undelivered"}

    told = shop.scrape()
    assert {sum(told.nonzero("darkroom_stuck_tasks").values())} == {4}, "their worker finds them"
    assert told("darkroom_rescues_total", action="released", reason="dead_worker") == 2
    assert told("darkroom_rescues_total", action="retried", reason="deadline") == 3
    assert told("darkroom_rescues_total", action="failed", reason="remote_overdue") == 1
    assert sum(told.nonzero("darkroom_rescues_total").values()) == 6


def test_the_sql_of_rescue_finds_each_stuck_row_once(shop: Shop) -> None:
    """An expired row is rescued too, but is no stuck task of the contract's list."""
    shop.pending_task()
    shop.wait(86_500)
    assert shop.write(stuck_tasks.count_stuck) == {"expired": 1}
    assert not shop.scrape().nonzero("darkroom_stuck_tasks")
    assert shop.rescue() == {"expired": 1}
    assert shop.scrape()("darkroom_rescues_total", action="failed", reason="expired") == 1


def test_slots_are_busy_free_or_draining(shop: Shop) -> None:
    shop.worker(slots=4)
    draining = shop.worker("01JBBBBBBBBBBBBBBBBBBBBBBB", slots=5)
    gone = shop.worker("01JCCCCCCCCCCCCCCCCCCCCCCC", slots=7)
    dead = shop.worker("01JDDDDDDDDDDDDDDDDDDDDDDD", slots=9)
    shop.claimed_task()
    shop.claimed_task(worker=draining)
    shop.write(lambda tx: workers.beat(tx, WORKER, 3))  # two threads more than rows
    shop.write(lambda tx: workers.drain(tx, draining))
    shop.write(lambda tx: workers.leave(tx, gone))
    shop.write(lambda tx: workers.mark_dead(tx, dead))
    told = shop.scrape()
    assert told("darkroom_worker_slots", state="busy") == 4
    assert told("darkroom_worker_slots", state="free") == 1
    assert told("darkroom_worker_slots", state="draining") == 4
    assert [told("darkroom_workers", state=state) for state in ("live", "draining", "dead")] == [1, 1, 1]


def test_counters_and_histograms_go_on_across_restarts(shop: Shop) -> None:
    shop.worker()
    shop.completed_task(shop.picked_task())
    first = Exposition(shop.settings, shop.database)
    before = shop.scrape(first)
    assert before("darkroom_tasks_finished_total", type="photography", outcome="completed") == 1
    assert before("darkroom_task_run_seconds_count", type="photography", outcome="completed") == 1
    assert before("darkroom_task_wait_seconds_count", type="photography") == 1

    shop.completed_task(shop.picked_task())
    shop.failed_task(shop.picked_task())
    cancelled = shop.pending_task()
    shop.write(lambda tx: user_actions.cancel(tx, cancelled))
    after = shop.scrape(Exposition(shop.settings, shop.database))
    assert after("darkroom_tasks_finished_total", type="photography", outcome="completed") == 2
    assert after("darkroom_tasks_finished_total", type="photography", outcome="failed") == 1
    assert after("darkroom_tasks_finished_total", type="photography", outcome="cancelled") == 1
    assert after("darkroom_task_wait_seconds_count", type="photography") == 3
    assert after("darkroom_task_run_seconds_count", type="photography", outcome="failed") == 1
    shared = {key for key in before.samples if not key[0].startswith("darkroom_oldest")}
    assert all(after.samples[key] >= before.samples[key] for key in shared if "_total" in key[0])


def test_two_web_processes_tell_the_same(shop: Shop) -> None:
    shop.worker()
    shop.failed_task()
    first, second = shop.scrape(), shop.scrape()
    assert first.samples.keys() == second.samples.keys()
    changing = ("_roundtrip_seconds", "_disk_free_bytes", "_beat_seconds", "_skew_seconds")
    assert {key: value for key, value in first.samples.items() if not key[0].endswith(changing)} == {
        key: value for key, value in second.samples.items() if not key[0].endswith(changing)
    }


def test_histograms_are_cumulative(shop: Shop) -> None:
    observed = (0.0004, 0.001, 0.003, 7.0, 599.0, 4000.0)
    for seconds in observed:
        shop.write(
            lambda tx, s=seconds: counters.observe(
                tx, "darkroom_task_run_seconds", s, type="fitting", outcome="failed"
            )
        )
    told = shop.scrape()

    def up_to(bound: str) -> float:
        return told("darkroom_task_run_seconds_bucket", type="fitting", outcome="failed", le=bound)

    assert [up_to(bound) for bound in ("0.001", "0.0025", "0.005", "5.0", "10.0", "600.0", "+Inf")] == [
        2, 2, 3, 3, 4, 5, 6,
    ]  # fmt: skip
    assert told("darkroom_task_run_seconds_count", type="fitting", outcome="failed") == 6
    assert told("darkroom_task_run_seconds_sum", type="fitting", outcome="failed") == pytest.approx(
        sum(observed)
    )


class TestRefunds:
    def test_are_counted_as_the_ledger_has_them(self, shop: Shop) -> None:
        shop.worker()
        shop.failed_task()
        cancelled = shop.pending_task()
        shop.write(lambda tx: user_actions.cancel(tx, cancelled))
        short = shop.claimed_task()
        made: list[dict[str, object]] = []
        shop.write(lambda tx: complete(tx, short, shop.leases[short], made, missing=1))
        shop.completed_task()
        in_ledger = shop.write(lambda tx: tx.value("SELECT count(*) FROM credit_entry WHERE kind = 'refund'"))
        assert in_ledger == 3
        assert shop.scrape()("darkroom_refunds_total") == in_ledger

    def test_are_none_without_a_debit(self, shop: Shop) -> None:
        shop.sql("INSERT INTO task_queue (user_openid, type, params) VALUES ('o', 'nonsense', '{}')")
        shop.write(lambda tx: admission.admit_waiting(tx, shop.settings, 10).get().rows)
        told = shop.scrape()
        assert told("darkroom_refunds_total") == 0
        assert told("darkroom_tasks_finished_total", type="OTHER", outcome="failed") == 1

    def test_are_counted_in_the_transaction_that_makes_them(self, shop: Shop) -> None:
        task = shop.pending_task()

        def cancel_and_fail(tx):  # type: ignore[no-untyped-def]
            user_actions.cancel(tx, task)
            raise KeyError

        with pytest.raises(KeyError):
            shop.write(cancel_and_fail)
        assert shop.scrape()("darkroom_refunds_total") == 0


def test_the_last_sweep_is_given_in_seconds_since_1970(shop: Shop) -> None:
    minute = shop.write(sweep_runs.begin)
    assert minute is not None
    assert shop.scrape()("darkroom_last_sweep_timestamp_seconds") == 0  # it has not ended
    shop.write(lambda tx: sweep_runs.end(tx, minute, {}))
    assert shop.scrape()("darkroom_last_sweep_timestamp_seconds") == pytest.approx(time.time(), abs=5)


def test_restarts_come_from_the_supervisors_file(shop: Shop) -> None:
    path = shop.settings.data_dir / "processes.json"
    name = "darkroom_process_restarts_total"
    assert shop.scrape().label_sets(name) == set()
    path.write_text(
        '{"supervisor": {"pid": 1}, "processes":'
        ' [{"name": "worker-1", "state": "starting", "restarts": 2}, {"name": "web", "state": "ready", "restarts": 0}]}'
    )
    told = shop.scrape()
    assert told(name, process="worker-1") == 2
    assert told(name, process="web") == 0
    assert told("darkroom_process_up", process="worker-1") == 0
    assert told("darkroom_process_up", process="web") == 1
    for broken in ("", "[]", '{"processes": [{}]}', '{"processes": null}', "\x00"):
        path.write_text(broken)
        assert shop.scrape().label_sets(name) == set()


def test_attempts_that_are_cancelled_or_given_up_count_how_long_they_ran(shop: Shop) -> None:
    shop.worker()
    cancelled = shop.claimed_task()
    remote = shop.handed_off_task(remote_limit_seconds=10)
    waiting = shop.pending_task()
    shop.wait(40)
    shop.write(lambda tx: user_actions.cancel(tx, cancelled))
    shop.write(lambda tx: user_actions.cancel(tx, waiting))  # it never ran
    ask(shop.write, remote, worker=WORKER)
    assert shop.rescue() == {"remote_overdue": 1}
    told = shop.scrape()
    ran = "darkroom_task_run_seconds"
    assert told(f"{ran}_count", type="photography", outcome="cancelled") == 1
    assert told(f"{ran}_sum", type="photography", outcome="cancelled") == pytest.approx(40, abs=30)
    assert told(f"{ran}_count", type="photography", outcome="failed") == 1
    assert told(f"{ran}_sum", type="photography", outcome="failed") == pytest.approx(40, abs=30)
    assert told("darkroom_tasks_finished_total", type="photography", outcome="cancelled") == 2


def test_unknown_types_leave_no_rows_of_their_own(shop: Shop) -> None:
    """Programs may write any type by SQL; the table of tallies would grow with each."""
    for number in range(5):
        shop.sql(
            "INSERT INTO task_queue (user_openid, type, params) VALUES ('o', ?, '{}')", f"madeup{number}"
        )
    first = shop.write(lambda tx: tx.value("SELECT id FROM task_queue WHERE type = 'madeup0'"))
    shop.write(lambda tx: user_actions.cancel(tx, first))
    shop.write(lambda tx: admission.admit_waiting(tx, shop.settings, 10).get().rows)
    assert not [labels for _, labels in shop.write(counters.read_all) if "madeup" in labels]
    told = shop.scrape()
    assert told("darkroom_tasks_finished_total", type="OTHER", outcome="failed") == 4
    assert told("darkroom_tasks_finished_total", type="OTHER", outcome="cancelled") == 1


def test_credits_are_counted_by_kind_as_the_ledger_has_them(shop: Shop) -> None:
    shop.worker()
    shop.failed_task()
    shop.completed_task()
    rows = shop.write(
        lambda tx: tx.all("SELECT kind, sum(abs(amount)) AS moved FROM credit_entry GROUP BY kind")
    )
    told = shop.scrape()
    assert {row["kind"]: row["moved"] for row in rows} == {
        kind: told("darkroom_credits_total", kind=kind) for kind in ("grant", "debit", "refund")
    }
    assert told("darkroom_credits_total", kind="refund") == 1


class TestBreakers:
    """A provider is up unless its breaker is open; one whose time is up may be tried."""

    STATES = ("closed", "half_open", "open")

    def states(self, shop: Shop) -> list[float]:
        told = shop.scrape()
        found = [told("darkroom_breaker_state", provider="studio", state=state) for state in self.STATES]
        return [*found, told("darkroom_provider_up", provider="studio")]

    def test_follow_the_table(self, shop: Shop) -> None:
        assert self.states(shop) == [1, 0, 0, 1]
        soon = shop.write(lambda tx: tx.value(f"SELECT {tx.in_seconds('60')}"))
        shop.sql("INSERT INTO provider_state (name, breaker, until) VALUES ('studio', 'open', ?)", soon)
        assert self.states(shop) == [0, 0, 1, 0]
        shop.wait(61)
        assert self.states(shop) == [0, 1, 0, 1]
        shop.sql("UPDATE provider_state SET breaker = 'closed', until = NULL")
        assert self.states(shop) == [1, 0, 0, 1]


def test_disks_of_this_host_are_shown_with_their_room(shop: Shop) -> None:
    told = shop.scrape()
    for path in ("database", "files"):
        free, size = (told(f"darkroom_disk_{what}_bytes", path=path) for what in ("free", "size"))
        assert 0 < free < size


def test_webhooks_are_counted_by_what_came_of_them_and_those_that_are_owed_by_state(shop: Shop) -> None:
    hook = "https://app.example.org/hook"
    for n in range(5):
        shop.write(lambda tx, task=shop.pending_task(webhook=f"{hook}/{n}"): user_actions.cancel(tx, task))  # type: ignore[misc]
    arrived, delayed, given_up, gone, _ = shop.write(
        lambda tx: deliveries.claim(tx, deliveries.due(tx).get())
    )
    shop.write(lambda tx: deliveries.delivered(tx, arrived, 200))
    shop.write(lambda tx: deliveries.delivered(tx, arrived, 200))  # reported twice, arrived once
    shop.write(lambda tx: deliveries.put_off(tx, delayed, 300, status=500, reason="It answers 500."))
    shop.write(lambda tx: deliveries.put_off(tx, given_up, None, status=None, reason="It is no address."))
    shop.write(lambda tx: deliveries.receiver_is_gone(tx, gone))
    shop.wait(40)
    told = shop.scrape()
    counted = told.nonzero("darkroom_webhook_deliveries_total")
    assert counted == {
        frozenset({("outcome", outcome)}): 1.0 for outcome in ("delivered", "delayed", "failed", "gone")
    }
    assert told("darkroom_webhooks", state="waiting") == told("darkroom_webhooks", state="sending") == 1
    assert told("darkroom_oldest_webhook_seconds") == pytest.approx(40, abs=30)
