"""The trace of a task in the store, and the wait before an attempt."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.core.claim import Claim
from supervisor.store.queue import dispatch
from supervisor.store.retention import ageing
from supervisor.store.tasks import claims, traces, user_actions
from supervisor.store.tasks.new_task import NewTask
from tests.conftest import PARAMS, Clock, Store

FIRST = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SECOND = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
DAY = 86_400.0


def test_a_submission_brings_its_trace_along_and_it_is_not_in_the_params(store: Store) -> None:
    def submit(trace: str) -> str:
        new = NewTask("o-1", "photography", PARAMS, trace=trace)
        return str(store.write(lambda tx: user_actions.submit(tx, store.settings, new))["task_id"])

    traced, plain = submit(FIRST), submit("")
    found = store.database.read(lambda tx: traces.contexts_of(tx, [traced, plain]))
    assert found == {traced: FIRST}
    assert FIRST not in str(store.task(traced)["params"])


def test_a_task_keeps_the_trace_that_it_has(store: Store, claimed_task: Callable[..., Claim]) -> None:
    task_id = claimed_task().task_id
    for context in (FIRST, SECOND):
        store.write(lambda tx, context=context: traces.begin(tx, [(task_id, context)]))
    assert store.database.read(lambda tx: traces.contexts_of(tx, [task_id])) == {task_id: FIRST}


def test_a_retry_waits_from_when_it_was_due(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    first = claimed_task()
    clock.advance(300)
    store.write(lambda tx: claims.retry(tx, first.task_id, first.lease, 1000.0))
    clock.advance(3000)
    store.write(dispatch.ripen)
    (again,) = store.dispatch()
    clock.advance(500)
    seen = store.database.read(lambda tx: traces.of_attempt(tx, first.task_id, again.lease))
    assert seen.context == ""
    assert 1990 < seen.waited_seconds < 2100 and 490 < seen.claimed_ago_seconds < 600
    assert (
        store.database.read(lambda tx: traces.of_attempt(tx, first.task_id, first.lease)).waited_seconds < 100
    )


def test_a_trace_goes_with_its_task(store: Store, clock: Clock, completed_task: Callable[..., str]) -> None:
    task_id = completed_task()
    store.write(lambda tx: traces.begin(tx, [(task_id, FIRST)]))
    clock.advance(2 * DAY)
    assert store.write(lambda tx: ageing.forget_finished_tasks(tx, "photography", DAY, 100)) == 1
    assert store.value("SELECT count(*) FROM task_trace") == 0
