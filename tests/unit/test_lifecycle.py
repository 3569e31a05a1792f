"""The table of steps: its properties, and the real store beside it under random events."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any

import peewee
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.core.errors import AlreadyFinished, InsufficientCredits, LeaseLost, NotRetryable
from supervisor.core.lifecycle import COUNTED, FINAL, OPEN, TRANSITIONS, Event, Money, Rule, Status
from supervisor.core.placement import Room
from supervisor.store.feed import works
from supervisor.store.ledger import credits
from supervisor.store.recovery import stuck_tasks
from supervisor.store.tasks import claims, remote_wait, user_actions
from tests.conftest import PARAMS, Store
from tests.support.databases import (
    POSTGRESQL,
    REFUSED,
    SQLITE,
    fresh_settings,
    open_quickly,
    plain_connection,
)
from tests.support.models.lifecycle_model import IllegalStep, TaskState, picture, step, steps_between
from tests.support.models.stepped import advance_now, portrait
from tests.support.servers.postgres_databases import give_back
from tests.support.workers import complete, report_progress

EVENTS = st.lists(st.tuples(st.sampled_from(Event), st.integers(0, 9)), max_size=40)
STATES = st.builds(
    TaskState,
    status=st.sampled_from(Status),
    lease=st.integers(0, 9),
    attempt=st.integers(0, 9),
    charge=st.integers(1, 5),
    admitted_charge=st.integers(0, 5),
    failures=st.integers(0, 3),
    deaths=st.integers(0, 3),
    taken=st.integers(0, 9),
)
RISING = st.frozensets(st.sampled_from(["failures", "deaths"]))


def _life(events: list[tuple[Event, int]]) -> list[tuple[TaskState, Event, TaskState]]:
    """Every legal step of a task that meets these events; illegal ones are tried and left out."""
    task, steps = TaskState(), []
    for event, price in events:
        with contextlib.suppress(IllegalStep):
            after = step(task, event, price=price)
            steps.append((task, event, after))
            task = after
    return steps


@given(EVENTS)
def test_only_resubmit_leaves_a_final_state(events: list[tuple[Event, int]]) -> None:
    for before, event, after in _life(events):
        if before.status in FINAL and after.status is not before.status:
            assert event is Event.RESUBMIT


@given(STATES, st.sampled_from(Event), RISING)
def test_an_illegal_step_raises_and_changes_nothing(
    task: TaskState, event: Event, rising: frozenset[str]
) -> None:
    untouched = TaskState(**vars(task))
    has_arrow = any((each.source, each.event) == (task.status, event) for each in TRANSITIONS)
    try:
        step(task, event, rising=rising)
    except IllegalStep as error:
        assert str(error) == f"A {task.status} task has no step '{event}'."
        # Not yet admitted, admitted already, or at the last step.
        assert not has_arrow or event in (Event.CLAIM, Event.ADMIT, Event.ADVANCE)
    else:
        assert has_arrow
    assert task == untouched


@given(STATES, st.sampled_from(Event), RISING)
def test_lease_attempt_and_charge_only_grow_and_by_one(
    task: TaskState, event: Event, rising: frozenset[str]
) -> None:
    with contextlib.suppress(IllegalStep):
        after = step(task, event, rising=rising)
        for column in ("lease", "attempt", "charge"):
            assert getattr(after, column) - getattr(task, column) in (0, 1)


@given(STATES, st.sampled_from(Event), RISING)
def test_every_claim_takes_a_new_lease_and_a_poll_is_no_new_attempt(
    task: TaskState, event: Event, rising: frozenset[str]
) -> None:
    with contextlib.suppress(IllegalStep):
        after = step(task, event, rising=rising)
        assert (after.lease > task.lease) == (event in (Event.CLAIM, Event.POLL))
        assert (after.attempt > task.attempt) == (event is Event.CLAIM)


@given(EVENTS)
def test_every_way_to_failed_or_cancelled_refunds_exactly_the_debit(
    events: list[tuple[Event, int]],
) -> None:
    taken = refunded = 0
    for before, event, after in _life(events):
        if event is Event.ADMIT:
            taken += after.taken - before.taken
        elif after.status in (Status.FAILED, Status.CANCELLED) and before.status in OPEN:
            refunded += before.taken
            assert after.taken == 0 and taken == refunded
        else:
            assert after.taken == before.taken
    for arrow in TRANSITIONS:
        ends_without_a_picture = arrow.source in OPEN and arrow.target in (Status.FAILED, Status.CANCELLED)
        assert (arrow.money is Money.REFUND) == ends_without_a_picture


@given(STATES)
def test_a_charge_is_admitted_once_and_claimed_only_when_admitted(task: TaskState) -> None:
    admitted = task.admitted_charge == task.charge
    for event, refused in ((Event.ADMIT, admitted), (Event.CLAIM, not admitted)):
        if task.status is Status.PENDING and not refused:
            step(task, event)
        else:
            with pytest.raises(IllegalStep):
                step(task, event)


def test_the_budget_is_spent_by_failures_alone_and_renewed_by_a_resubmit_and_by_each_step() -> None:
    spending = {(each.source, each.event) for each in TRANSITIONS if each.rule("failures") is Rule.PLUS_ONE}
    assert spending == {(Status.PROCESSING, Event.RETRY), (Status.AI_PROCESSING, Event.RETRY)}
    for column in ("failures", "deaths"):
        assert {each.event for each in TRANSITIONS if each.rule(column) is Rule.ZERO} == {
            Event.RESUBMIT,
            Event.ADVANCE,
        }
    raised = {each.event for each in TRANSITIONS if each.rule("charge") is not Rule.SAME}
    assert raised == {Event.RESUBMIT}


def test_an_event_has_one_outcome_in_each_status() -> None:
    steps = [(each.source, each.event) for each in TRANSITIONS]
    assert len(steps) == len(set(steps))
    assert {each.event for each in TRANSITIONS} == set(Event)


def test_every_open_task_can_reach_every_final_state() -> None:
    for source in OPEN:
        seen, waiting = {source}, [source]
        while waiting:
            here = waiting.pop()
            for target in set(Status) - seen:
                if steps_between(here, target):
                    seen.add(target)
                    waiting.append(target)
        assert seen == set(Status), source


def test_the_picture_shows_every_arrow_that_users_see() -> None:
    drawn = picture()
    assert drawn.startswith("stateDiagram-v2\n") and "[*] --> pending: submit" in drawn
    for arrow in TRANSITIONS:
        (line,) = [each for each in drawn.splitlines() if f" {arrow.source} --> {arrow.target}:" in each] or [
            ""
        ]
        hidden = arrow.event in (Event.RIPEN, Event.PROGRESS, Event.SETTLE)
        assert (arrow.event.value in line.partition(": ")[2].split(", ")) != hidden, arrow


# --- the store beside the table ---

RICH, POOR = "o-rich", "o-poor"
PRICE = 2  # of the tasks of this test: two pictures at one credit
KEPT = 1  # of it, for each finished step


class StoreBesideLifecycle(RuleBasedStateMachine):
    """Random events drive the real store and `lifecycle_model.step`; both must agree after each."""

    kind = SQLITE

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="darkroom-model-"))
        changed: dict[str, Any] = {
            "credits": {"signup_grant": 100},
            "limits": {"open_tasks_per_user": 0, "running_tasks_per_user": 0},
            "tasks": {"portrait": portrait(kept_credits=KEPT)},
        }
        settings = fresh_settings(self.folder, kind=self.kind, **changed)
        self.database = open_quickly(settings)
        self.store = Store(settings, self.database)
        self.producer = plain_connection(settings)
        self.producer.execute("UPDATE rule SET signup_grant = 5")
        self.model: dict[str, TaskState] = {}
        self.made = 0
        self.held: dict[str, int] = {}  # the lease that a worker holds
        self.lost: list[tuple[str, int]] = []  # leases that a worker once held
        for worker in ("a", "b"):
            self._write(
                lambda tx, worker=worker: tx.execute(
                    "INSERT INTO worker (id, host, pid, slots, takes_claims) VALUES (?, 'here', 1, 1000, 1)",
                    worker,
                )
            )
        self._write(lambda tx: credits.grant(tx, RICH, 10_000, "for the test"))

    def teardown(self) -> None:
        self.producer.close()
        self.database.close()
        if self.kind == POSTGRESQL:
            give_back(self.store.settings.database_url)
        shutil.rmtree(self.folder)

    # --- helpers ---

    def _write(self, work: Any) -> Any:
        return self.database.write_now(work)

    def _new_id(self) -> str:
        """Rising ids: what the store orders by id must come out the same when an example is run again."""
        self.made += 1
        return f"task-{self.made:04}"

    def _some(self, *statuses: Status) -> list[str]:
        return [task_id for task_id, task in self.model.items() if task.status in statuses]

    def _choose(self, data: st.DataObject, tasks_: list[str]) -> str:
        return data.draw(st.sampled_from(sorted(tasks_)), label="task")

    def _held(self, *statuses: Status) -> list[str]:
        return [task_id for task_id in self.held if self.model[task_id].status in statuses]

    def _step(self, task_id: str, event: Event, **more: Any) -> None:
        self.model[task_id] = step(self.model[task_id], event, **more)
        if event not in (Event.CLAIM, Event.POLL, Event.PROGRESS, Event.RIPEN):
            lease = self.held.pop(task_id, None)
            if lease is not None:
                self.lost.append((task_id, lease))

    def _admitted(self, task_id: str) -> None:
        """What admission does to the model: it can be paid for, or it can't."""
        status = self.store.task(task_id)["status"]
        self._admit(task_id) if status == "pending" else self._step(task_id, Event.REJECT)

    def _admit(self, task_id: str) -> None:
        """It goes on where an earlier charge has got to, and what that has kept is not paid again."""
        task = self.model[task_id]
        self.model[task_id] = dataclasses.replace(task, first_step=task.finished)
        self._step(task_id, Event.ADMIT, price=PRICE - min(PRICE, KEPT * task.finished, task.paid_before))

    # --- events ---

    @rule(user=st.sampled_from([RICH, POOR]))
    def submit(self, user: str) -> None:
        new = user_actions.NewTask(user, "photography", {**PARAMS, "count": 2}, task_id=self._new_id())
        try:
            view = self._write(lambda tx: user_actions.submit(tx, self.store.settings, new))
        except InsufficientCredits:
            assert user == POOR
            return
        self.model[view["task_id"]] = step(TaskState(), Event.ADMIT, price=PRICE)

    @rule(user=st.sampled_from([RICH, POOR]))
    def submit_with_steps(self, user: str) -> None:
        new = user_actions.NewTask(user, "portrait", {**PARAMS, "count": 2}, task_id=self._new_id())
        try:
            view = self._write(lambda tx: user_actions.submit(tx, self.store.settings, new))
        except InsufficientCredits:
            assert user == POOR
            return
        self.model[view["task_id"]] = step(TaskState(last_step=2), Event.ADMIT, price=PRICE)

    @rule(user=st.sampled_from([RICH, POOR]))
    def insert_by_sql(self, user: str) -> None:
        (task_id,) = self.producer.execute(
            "INSERT INTO task_queue (id, user_openid, type, params) VALUES (?, ?, 'photography', ?) RETURNING id",
            (self._new_id(), user, '{"images":["https://example.org/person.jpg"],"count":2}'),
        ).fetchone()
        self.model[task_id] = TaskState()

    @rule()
    def admit_what_waits(self) -> None:
        waiting = [
            t for t in self._some(Status.PENDING) if self.model[t].admitted_charge < self.model[t].charge
        ]
        assert self.store.admit_waiting() == len(waiting)
        for task_id in waiting:
            self._admitted(task_id)

    @rule()
    def dispatch(self) -> None:
        for claim in self.store.dispatch("a"):
            self._step(claim.task_id, Event.CLAIM)
            self.held[claim.task_id] = claim.lease

    @initialize()
    def start_with_some_of_each(self) -> None:
        """A task in every open status, so that no example spends its steps on getting there."""
        self.insert_by_sql(RICH)
        for _ in range(5):
            self.submit(RICH)
        self.submit(POOR)
        *running, remote = sorted(self._some(Status.PENDING))[:4]
        for task_id in (*running, remote):
            self._claim(task_id)
        if remote in self.held:
            self._hand_off(remote)

    @precondition(lambda self: self._some(Status.PENDING))
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        self._claim(self._choose(data, self._some(Status.PENDING)))

    @precondition(lambda self: self._some(Status.PENDING))
    @rule(data=st.data())
    def claim_in_vain(self, data: st.DataObject) -> None:
        task_id = self._choose(data, self._some(Status.PENDING))
        wanted = [claims.Wanted(task_id, "nobody", 630)]
        assert self._write(lambda tx: claims.claim_for(tx, wanted).get()) == []

    def _claim(self, task_id: str) -> None:
        task = self.model[task_id]
        claimed = self._write(lambda tx: claims.claim_for(tx, [claims.Wanted(task_id, "a", 630)]).get())
        assert bool(claimed) == (task.admitted_charge == task.charge)
        for row in claimed:
            self._step(task_id, Event.CLAIM)
            self.held[task_id] = row["lease"]

    def _hand_off(self, task_id: str) -> None:
        lease = self.held[task_id]
        self._write(
            lambda tx: remote_wait.hand_off(tx, task_id, lease, poll_in_seconds=0, remote_limit_seconds=3600)
        )
        self._step(task_id, Event.HAND_OFF)

    @precondition(lambda self: self._held(Status.PROCESSING))
    @rule(data=st.data(), how=st.sampled_from(["retry", "postpone", "release", "died", "hand_off"]))
    def put_back(self, data: st.DataObject, how: str) -> None:
        task_id = self._choose(data, self._held(Status.PROCESSING))
        lease = self.held[task_id]
        match how:
            case "retry":
                self._write(lambda tx: claims.retry(tx, task_id, lease, 0.0))
                self._step(task_id, Event.RETRY)
            case "postpone":
                self._write(lambda tx: claims.postpone(tx, task_id, lease, 0.0))
                self._step(task_id, Event.POSTPONE)
            case "release":
                self._write(lambda tx: claims.release(tx, task_id, lease))
                self._step(task_id, Event.RELEASE)
            case "died":
                self._write(lambda tx: claims.release(tx, task_id, lease, died=True))
                self._step(task_id, Event.RELEASE, rising=frozenset({"deaths"}))
            case "hand_off":
                self._hand_off(task_id)

    @precondition(lambda self: self._some(Status.AI_PROCESSING))
    @rule()
    def poll(self) -> None:
        due = {task_id for task_id in self._some(Status.AI_PROCESSING) if task_id not in self.held}
        rows = self._write(lambda tx: remote_wait.claim_due_polls(tx, [Room("a", 1000)], lambda *_: 300.0))
        assert {row["id"] for row in rows} == due
        for row in rows:
            self._step(row["id"], Event.POLL)
            self.held[row["id"]] = row["lease"]

    @precondition(lambda self: self._held(Status.AI_PROCESSING))
    @rule(data=st.data(), fails=st.booleans())
    def answer(self, data: st.DataObject, fails: bool) -> None:
        task_id = self._choose(data, self._held(Status.AI_PROCESSING))
        lease = self.held[task_id]
        if fails:
            self._write(lambda tx: claims.retry(tx, task_id, lease, 0.0))
            self._step(task_id, Event.RETRY)
        else:
            self._write(lambda tx: remote_wait.not_yet(tx, task_id, lease, 0))
            self._step(task_id, Event.NOT_YET)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), percent=st.integers(0, 200))
    def progress(self, data: st.DataObject, percent: int) -> None:
        task_id = self._choose(data, list(self.held))
        before = self.store.task(task_id)["progress"]
        assert self._write(lambda tx: report_progress(tx, task_id, self.held[task_id], percent, "printing"))
        self._step(task_id, Event.PROGRESS)
        assert before <= self.store.task(task_id)["progress"] <= 99

    def _advance(self, task_id: str) -> None:
        lease = self.held[task_id]
        self._write(lambda tx: advance_now(tx, task_id, lease))
        self._step(task_id, Event.ADVANCE)
        task = self.model[task_id]
        self.model[task_id] = dataclasses.replace(
            task, kept=task.kept + KEPT, finished=max(task.finished, task.step)
        )

    @precondition(lambda self: self._with_steps())
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        self._advance(self._choose(data, self._with_steps()))

    def _with_steps(self) -> list[str]:
        return [each for each in self.held if self.model[each].step < self.model[each].last_step]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["complete", "missing", "fail", "died"]))
    def finish(self, data: st.DataObject, how: str) -> None:
        task_id = self._choose(data, list(self.held))
        lease = self.held[task_id]
        if how in ("complete", "missing") and self.model[task_id].step < self.model[task_id].last_step:
            self._advance(task_id)
        elif how in ("complete", "missing"):
            missing = int(how == "missing")
            made = [{"key": f"{task_id}.jpg", "width": 1, "height": 1}]
            self._write(lambda tx: complete(tx, task_id, lease, made, missing))
            self._step(task_id, Event.COMPLETE)
            taken = self.model[task_id].taken - (missing * self.model[task_id].taken) // 2
            self.model[task_id] = TaskState(**{**vars(self.model[task_id]), "taken": taken})
        else:
            counts = "deaths" if how == "died" else "failures"
            self._write(lambda tx: claims.fail(tx, task_id, lease, "internal", "It broke.", counts=counts))
            self._step(task_id, Event.FAIL, rising=frozenset({counts}))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task_id = self._choose(data, list(self.model))
        if self.model[task_id].status in FINAL:
            with pytest.raises(AlreadyFinished):
                self._write(lambda tx: user_actions.cancel(tx, task_id))
        else:
            self._write(lambda tx: user_actions.cancel(tx, task_id))
            self._step(task_id, Event.CANCEL)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), by_sql=st.booleans())
    def resubmit(self, data: st.DataObject, by_sql: bool) -> None:
        task_id = self._choose(data, list(self.model))
        task, deleted = (
            self.model[task_id],
            not self.store.all("SELECT 1 FROM works WHERE task_id = ?", task_id),
        )
        legal = task.status in (Status.FAILED, Status.CANCELLED) and not deleted
        try:
            if by_sql:
                if task.status is not Status.PENDING:  # a pending row: nothing is asked of it
                    self.producer.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (task_id,))
            else:
                self._write(lambda tx: user_actions.resubmit(tx, self.store.settings, task_id))
        except InsufficientCredits:
            return
        except (NotRetryable, peewee.IntegrityError, *REFUSED):
            assert not legal
            return
        if by_sql and task.status is Status.PENDING:
            return
        assert legal
        self._step(task_id, Event.RESUBMIT)
        if not by_sql:
            self._admit(task_id)

    @rule(worker=st.sampled_from(["a", "b"]))
    def a_worker_dies(self, worker: str) -> None:
        """b holds nothing; nothing of a's may be touched by its death."""
        holds = {
            row["id"]
            for row in self.store.all("SELECT id FROM task_queue WHERE worker_id = ?", worker)
            if row["id"] in self.held
        }
        self._write(lambda tx: tx.execute("UPDATE worker SET state = 'dead' WHERE id = ?", worker))
        rescued = self._write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.0, deadlines=False))
        self._write(lambda tx: tx.execute("UPDATE worker SET state = 'live' WHERE id = ?", worker))
        assert {each.task_id for each in rescued} == holds
        for each in rescued:
            gave_up = each.action == "failed"
            polled = self.model[each.task_id].status is Status.AI_PROCESSING
            self._step(
                each.task_id,
                Event.FAIL if gave_up else Event.RELEASE,
                rising=frozenset() if polled else frozenset({"deaths"}),
            )

    @precondition(lambda self: self.lost)
    @rule(
        data=st.data(),
        how=st.sampled_from([claims.retry, claims.release, complete, remote_wait.not_yet, advance_now]),
    )
    def a_late_worker_writes(self, data: st.DataObject, how: Any) -> None:
        task_id, lease = data.draw(st.sampled_from(self.lost))
        more = {claims.retry: (0.0,), complete: ([],), remote_wait.not_yet: (0,)}.get(how, ())
        with pytest.raises(LeaseLost):
            self._write(lambda tx: how(tx, task_id, lease, *more))
        assert not self._write(lambda tx: report_progress(tx, task_id, lease, 50, "late"))

    @precondition(lambda self: self._some(Status.COMPLETED, Status.FAILED))
    @rule(data=st.data())
    def delete_the_work(self, data: st.DataObject) -> None:
        task_id = self._choose(data, self._some(Status.COMPLETED, Status.FAILED))
        for work in self.store.all("SELECT id, user_openid FROM works WHERE task_id = ?", task_id):
            self._write(lambda tx, work=work: works.delete(tx, work["id"], work["user_openid"]))

    # --- what holds after each ---

    @invariant()
    def counted_columns_agree(self) -> None:
        rows = {row["id"]: row for row in self.store.all("SELECT * FROM task_queue")}
        assert set(rows) == set(self.model)
        for task_id, task in self.model.items():
            row = rows[task_id]
            assert row["status"] == task.status
            assert {column: row[column] for column in COUNTED} == {c: getattr(task, c) for c in COUNTED}

    @invariant()
    def the_ledger_holds_what_was_taken(self) -> None:
        rows = self.store.all("SELECT task_id, -sum(amount) AS taken FROM credit_entry GROUP BY task_id")
        paid = {row["task_id"]: row["taken"] for row in rows}
        for task_id, task in self.model.items():
            assert paid.get(task_id, 0) == task.taken + task.paid_before, task
        for user in (RICH, POOR):
            if self.store.value("SELECT 1 FROM account WHERE user_openid = ?", user):
                assert self.store.balance(user) >= 0

    @invariant()
    def a_users_seq_has_no_gap(self) -> None:
        for row in self.store.all("SELECT user_openid, seq FROM account"):
            kept = self.store.all(
                "SELECT seq FROM work_change WHERE user_openid = ? ORDER BY log_id", row["user_openid"]
            )
            assert [each["seq"] for each in kept] == list(range(1, row["seq"] + 1))

    @invariant()
    def works_show_what_tasks_are(self) -> None:
        differing = self.store.all(
            """SELECT task_queue.id FROM task_queue JOIN works ON works.task_id = task_queue.id
                WHERE works.status <> task_queue.status OR works.progress <> task_queue.progress
                   OR works.stage <> task_queue.stage
                   OR coalesce(CAST(works.error AS TEXT), '') <> coalesce(CAST(task_queue.error AS TEXT), '')
                   OR works.id <> task_queue.work_id"""
        )
        assert differing == []


def _examples(count: int) -> hypothesis_settings:
    return hypothesis_settings(
        max_examples=count,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.filter_too_much,
            HealthCheck.data_too_large,
        ],
    )


class StoreBesideLifecycleOnPostgres(StoreBesideLifecycle):
    """The same events on the other database; its guard and triggers are separate texts."""

    kind = POSTGRESQL


TestStoreBesideLifecycle = StoreBesideLifecycle.TestCase
TestStoreBesideLifecycle.settings = _examples(25)
TestStoreBesideLifecycleOnPostgres = StoreBesideLifecycleOnPostgres.TestCase
TestStoreBesideLifecycleOnPostgres.settings = _examples(6)
