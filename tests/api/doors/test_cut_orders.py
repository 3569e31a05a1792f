"""An order that was cut off before its answer is taken over by one repeat of it, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from supervisor.core.errors import AccountLocked
from supervisor.database.interface.database import Transaction
from supervisor.objects.open_store import open_file_store
from supervisor.services.sweep import sweep
from supervisor.store.tasks import cut_orders, user_actions
from supervisor.store.tasks.new_task import NewTask, Repeatable
from supervisor.store.tasks.submit import Outcome, Submitted, submit_many
from tests.conftest import PARAMS, Clock, Store
from tests.support.databases import Plain


def _order(user: str = "o-1", door: str = "fal", body: str = "h", begun: float = 0.0) -> NewTask:
    return NewTask(user, "photography", PARAMS, repeats=Repeatable(user, door, body, lambda: begun))


def _submit(store: Store, *orders: NewTask) -> list[Submitted]:
    outcomes = store.write(lambda tx: submit_many(tx, store.settings, list(orders)))
    assert all(isinstance(each, Submitted) for each in outcomes), outcomes
    return [each for each in outcomes if isinstance(each, Submitted)]


def _cut(store: Store, seconds_ago: float = 1.0, order: NewTask | None = None) -> str:
    """An order that was cut off; its task."""
    order = order or _order()
    (made,) = _submit(store, order)
    task_id, repeats = made.view["task_id"], order.repeats
    assert repeats is not None
    store.write(lambda tx: cut_orders.note(tx, task_id, repeats, seconds_ago))
    return str(task_id)


def test_of_several_equal_orders_one_takes_the_cut_one_over(store: Store) -> None:
    task_id = _cut(store)
    made = _submit(store, _order(), _order(), _order())
    assert [each.is_replay for each in made] == [True, False, False] and made[0].view["task_id"] == task_id
    assert store.balance() == store.settings.credits.signup_grant - 3, "paid as often as ordered"


def test_of_repeats_in_several_processes_one_takes_it_over(store: Store) -> None:
    task_id = _cut(store)
    with ThreadPoolExecutor(6) as several:
        made = list(several.map(lambda _: _submit(store, _order())[0], range(6)))
    assert [each.view["task_id"] for each in made if each.is_replay] == [task_id]


def test_two_cut_orders_are_taken_over_by_two(store: Store) -> None:
    ids, repeats = {each.view["task_id"] for each in _submit(store, _order(), _order())}, _order().repeats
    assert repeats is not None
    for task_id in ids:
        store.write(lambda tx, task_id=task_id: cut_orders.note(tx, task_id, repeats, 1.0))
    assert {each.view["task_id"] for each in _submit(store, _order(), _order())} == ids


@pytest.mark.parametrize(
    "other",
    [_order("o-2"), _order(door="openai"), _order(body="g"), _order(begun=1.5), NewTask("o-1", "photography", PARAMS)],
    ids=["another user", "another door", "another body", "begun before the cut", "no door"],
)  # fmt: skip
def test_nothing_else_takes_it_over(store: Store, other: NewTask) -> None:
    _cut(store, 1.0)
    assert not _submit(store, other)[0].is_replay
    assert _submit(store, _order())[0].is_replay, "it still waits for its repeat"


def test_after_a_minute_nobody_takes_it_over_and_a_long_upload_is_no_delay(
    store: Store, clock: Clock
) -> None:
    for seconds, begun, is_taken in ((59.0, 0.0, True), (61.0, 0.0, False), (100.0, 50.0, True)):
        _cut(store, 0.0)
        clock.advance(seconds)
        assert _submit(store, _order(begun=begun))[0].is_replay is is_taken
        store.write(lambda tx: tx.execute("DELETE FROM cut_order"))


def test_a_cancelled_task_is_not_taken_over_and_a_failed_one_is(
    store: Store, failed_task: Callable[..., str]
) -> None:
    task_id = _cut(store)
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    assert not _submit(store, _order())[0].is_replay
    failed, repeats = failed_task(), _order().repeats
    assert repeats is not None
    store.write(lambda tx: cut_orders.note(tx, failed, repeats, 1.0))
    assert _submit(store, _order())[0].view["task_id"] == failed


def test_an_order_that_is_cut_again_is_taken_over_again(store: Store) -> None:
    task_id, repeats = _cut(store), _order().repeats
    assert repeats is not None
    for _ in range(3):
        assert _submit(store, _order())[0].view["task_id"] == task_id
        store.write(lambda tx: cut_orders.note(tx, task_id, repeats, 0.5))


def test_the_sweep_forgets_what_nobody_can_take_over(store: Store, clock: Clock) -> None:
    _cut(store)
    files: Any = open_file_store(store.settings)
    sweep(store.database, store.settings, files)
    assert store.value("SELECT count(*) FROM cut_order") == 1
    clock.advance(2 * cut_orders.FORGET_SECONDS)
    sweep(store.database, store.settings, files)
    assert store.value("SELECT count(*) FROM cut_order") == 0


@pytest.mark.postgresql_only
def test_a_repeat_of_a_locked_account_leaves_the_cut_order_for_its_next_try(
    store: Store, producer: Plain
) -> None:
    task_id = _cut(store)
    producer.execute("BEGIN")
    producer.execute("SELECT 1 FROM account WHERE user_openid = 'o-1' FOR UPDATE")

    def submit(tx: Transaction) -> list[Outcome]:
        return submit_many(tx, store.settings, [_order(), _order("o-2")], waits=False)

    locked, free = store.write(submit)
    assert isinstance(locked, AccountLocked) and isinstance(free, Submitted)
    producer.execute("ROLLBACK")
    taken, _ = store.write(submit)
    assert isinstance(taken, Submitted) and taken.is_replay and taken.view["task_id"] == task_id
