"""A row that another program has locked holds up the steps that need it, and no other."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from config.settings import Settings
from supervisor.core.errors import RowsLocked
from supervisor.database.interface.database import BatchedStep, Transaction
from supervisor.database.postgres import transactions
from supervisor.database.postgres.postgres_database import WRITER_THREADS, PostgresDatabase
from supervisor.store.ledger import credits
from supervisor.store.tasks import user_actions
from tests.conftest import DEADLINE_SECONDS, Store, wait_until
from tests.support.databases import Plain, plain_connection

pytestmark = pytest.mark.postgresql_only
MORE_THAN_THREADS = 2 * WRITER_THREADS + 1


@pytest.fixture
def other(settings: Settings) -> Iterator[Plain]:
    """A second connection of a producer, whose transaction stays open."""
    with contextlib.closing(plain_connection(settings)) as connection:
        connection.execute("BEGIN")
        yield connection


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "LOCKED_SECONDS", 600.0)


def _lock(other: Plain, user: str) -> None:
    other.execute("SELECT 1 FROM account WHERE user_openid = ? FOR UPDATE", (user,))


def _add(tx: Transaction, name: str) -> str:
    tx.execute("INSERT INTO sweep_run (minute) VALUES (?)", name)
    return name


def test_actions_of_a_locked_user_hold_up_no_other_user_s(
    store: Store, other: Plain, patient: None, admitted_task: Callable[..., str]
) -> None:
    of_held = [admitted_task("held") for _ in range(MORE_THAN_THREADS)]
    of_free = [admitted_task("free") for _ in range(2)]
    _lock(other, "held")
    held = [store.database.write(lambda tx, i=i: user_actions.cancel(tx, i)) for i in of_held]
    for each in of_free:
        done = store.database.write(lambda tx, i=each: user_actions.cancel(tx, i))
        assert done.result(DEADLINE_SECONDS)["status"] == "cancelled"
    assert not any(each.done() for each in held)
    other.execute("ROLLBACK")
    for each in held:
        assert each.result(DEADLINE_SECONDS)["status"] == "cancelled"


def test_steps_of_tasks_whose_user_is_locked_hold_up_no_other_task_and_keep_their_order(
    store: Store, other: Plain, patient: None, admitted_task: Callable[..., str]
) -> None:
    """As the progress of attempts, whose worker would otherwise send no heartbeat."""
    of_held = [admitted_task("held") for _ in range(MORE_THAN_THREADS)]
    of_free = admitted_task("free")
    _lock(other, "held")
    seen: list[tuple[str, int]] = []

    def step(task_id: str, number: int) -> BatchedStep[Any, None]:
        def together(tx: Transaction, items: Any) -> list[None]:
            for each, stage in items:
                tx.execute("UPDATE task_queue SET stage = ? WHERE id = ?", str(stage), each)
            seen.extend(items)
            return [None for _ in items]

        return BatchedStep("staged", together, (task_id, number))

    held = [store.database.write(step(each, number), order_key=each) for number in (1, 2) for each in of_held]
    store.database.write(step(of_free, 1), order_key=of_free).result(DEADLINE_SECONDS)
    store.database.write(lambda tx: _add(tx, "a beat")).result(DEADLINE_SECONDS)
    assert not any(each.done() for each in held)
    other.execute("ROLLBACK")
    concurrent.futures.wait(held, DEADLINE_SECONDS)
    assert all(each.done() and each.exception() is None for each in held)
    assert {store.task(each)["stage"] for each in of_held} == {"2"}


def test_a_step_whose_row_stays_locked_fails_with_a_sentence_and_nothing_is_stored(
    store: Store, other: Plain, monkeypatch: pytest.MonkeyPatch, admitted_task: Callable[..., str]
) -> None:
    monkeypatch.setattr(transactions, "LOCKED_SECONDS", 0.5)
    task_id = admitted_task("held")
    _lock(other, "held")
    for write in (
        lambda: store.database.write(lambda tx: user_actions.cancel(tx, task_id)).result(DEADLINE_SECONDS),
        lambda: store.database.write_now(lambda tx: user_actions.cancel(tx, task_id)),
    ):
        with pytest.raises(RowsLocked, match="locked by another program for too long; nothing was stored"):
            write()
    other.execute("ROLLBACK")
    assert store.task(task_id)["status"] == "pending"


def test_a_step_that_names_how_long_it_waits_is_not_tried_again(
    store: Store, other: Plain, patient: None, admitted_task: Callable[..., str]
) -> None:
    task_id = admitted_task("held")
    _lock(other, "held")
    tried: list[str] = []

    def cancel(tx: Transaction) -> Any:
        tried.append(task_id)
        return user_actions.cancel(tx, task_id)

    with pytest.raises(RowsLocked):
        store.database.write(cancel, lock_seconds=0.01).result(DEADLINE_SECONDS)
    assert tried == [task_id]


def test_an_account_that_another_transaction_is_opening_holds_up_no_other(
    store: Store, other: Plain, patient: None
) -> None:
    other.execute("INSERT INTO account (user_openid) VALUES ('new')")
    opening = [
        store.database.write(lambda tx: credits.ensure_account(tx, "new")) for _ in range(MORE_THAN_THREADS)
    ]
    store.database.write(lambda tx: credits.ensure_account(tx, "another")).result(DEADLINE_SECONDS)
    assert not any(each.done() for each in opening)
    other.execute("COMMIT")
    concurrent.futures.wait(opening, DEADLINE_SECONDS)
    assert all(each.exception(0) is None for each in opening)


def test_closing_waits_for_the_steps_that_are_set_aside(
    settings: Settings, other: Plain, store: Store
) -> None:
    store.write(lambda tx: credits.ensure_account(tx, "held"))
    _lock(other, "held")
    database = PostgresDatabase(settings.database_url)
    tried: list[int] = []

    def grant(tx: Transaction) -> None:
        tried.append(1)
        credits.grant(tx, "held", 1, "once")

    granted = database.write(grant)
    wait_until(lambda: len(tried) > 2, "it is tried again and again")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        closed = threads.submit(database.close)
        other.execute("ROLLBACK")
        closed.result(DEADLINE_SECONDS)
    assert granted.done() and granted.exception() is None
