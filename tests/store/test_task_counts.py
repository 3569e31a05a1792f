"""The triggers' counts equal a real count, for every writer and after every rollback."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.settings import Settings
from supervisor.core.errors import Fault
from supervisor.database.interface.database import Transaction
from supervisor.schema.migrate import migrate
from supervisor.store.counters import open_task_counts
from supervisor.store.queue import dispatch, workers
from supervisor.store.retention import ageing
from supervisor.store.tasks import admission, claims, remote_wait, user_actions
from tests.conftest import PARAMS, Store
from tests.support.databases import REFUSED, Plain
from tests.support.workers import complete

WORKER = "worker-1"


class TakenBack(Exception):
    """Ends a transaction that must leave nothing."""


def counted(tx: Transaction) -> dict[tuple[str, str], int]:
    """What reading every task finds."""
    rows = tx.all(
        """SELECT type, status, count(*) AS n FROM task_queue
            WHERE status IN ('pending','processing','ai_processing') GROUP BY type, status"""
    )
    return {(row["type"], row["status"]): row["n"] for row in rows}


def refuse_wrong_numbers(tx: Transaction) -> None:
    numbers = counted(tx)
    assert open_task_counts.open_tasks(tx) == numbers
    assert open_task_counts.pending(tx) == sum(n for (_, status), n in numbers.items() if status == "pending")


def submit(tx: Transaction, configured: Settings, chance: Any) -> None:
    type_ = chance.choice(["photography", "fitting"])
    images = PARAMS["images"] * (2 if type_ == "fitting" else 1)
    user_actions.submit(
        tx, configured, user_actions.NewTask(f"o-{chance.randint(1, 3)}", type_, {"images": images})
    )


def insert_many(tx: Transaction, configured: Settings, chance: Any) -> None:
    tx.execute(
        f"""INSERT INTO task_queue (user_openid, type, params)
            SELECT 'o-9', value, '{{"images":["https://example.org/a.jpg"]}}' FROM {tx.texts(":types")} AS of_types""",
        types='["photography","fitting","photography","no_such_type"]',
    )


def admit(tx: Transaction, configured: Settings, chance: Any) -> None:
    admission.admit_waiting(tx, configured, chance.randint(1, 4)).get()


def dispatch_and_claim(tx: Transaction, configured: Settings, chance: Any) -> None:
    for claim in dispatch.pick_and_claim(tx, configured).claims[chance.randint(0, 4) :]:
        claims.release(tx, claim["id"], claim["lease"])


def end_one(tx: Transaction, configured: Settings, chance: Any) -> None:
    held = tx.all("SELECT id, lease FROM task_queue WHERE status = 'processing' ORDER BY id")
    if not held:
        return
    row = chance.choice(held)
    match chance.randint(0, 2):
        case 0:
            complete(tx, row["id"], row["lease"], [{"key": "results/a.jpg", "width": 1, "height": 1}], 0)
        case 1:
            claims.fail(tx, row["id"], row["lease"], "internal", "It broke.")
        case 2:
            remote_wait.hand_off(tx, row["id"], row["lease"], poll_in_seconds=0, remote_limit_seconds=60)


def cancel_some(tx: Transaction, configured: Settings, chance: Any) -> None:
    for row in tx.all("SELECT id FROM task_queue ORDER BY id"):
        if chance.randint(0, 3) == 0:
            with contextlib.suppress(Fault):
                user_actions.cancel(tx, row["id"])


def retry_all_by_sql(tx: Transaction, configured: Settings, chance: Any) -> None:
    tx.execute("UPDATE task_queue SET status = 'pending' WHERE status IN ('failed','cancelled')")


def forget(tx: Transaction, configured: Settings, chance: Any) -> None:
    ageing.forget_finished_tasks(tx, "photography", 0, chance.randint(1, 5))


def fold(tx: Transaction, configured: Settings, chance: Any) -> None:
    open_task_counts.fold(tx, chance.randint(1, 10))


OPERATIONS: list[Callable[[Transaction, Settings, Any], None]] = [
    submit, insert_many, admit, dispatch_and_claim, end_one, cancel_some, retry_all_by_sql, forget, fold,
]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.tuples(st.sampled_from(OPERATIONS), st.booleans()), min_size=1, max_size=14),
    seed=st.integers(0, 1_000_000),
)
def test_the_numbers_are_those_that_counting_finds(
    store: Store, steps: list[tuple[Callable[..., None], bool]], seed: int
) -> None:
    """After each step, within its transaction and outside of it; some steps are taken back.

    What a step chooses depends on the rows that earlier examples have left: Hypothesis gives a seed, not the choices.
    """
    chance = random.Random(seed)
    if store.value("SELECT 1 FROM worker") is None:
        store.write(lambda tx: workers.register(tx, WORKER, host="here", pid=1, slots=1000))
    for operation, is_kept in steps:

        def step(tx: Transaction, operation: Any = operation, is_kept: bool = is_kept) -> None:
            operation(tx, store.settings, chance)
            refuse_wrong_numbers(tx)
            if not is_kept:
                raise TakenBack

        with contextlib.suppress(TakenBack, Fault):
            store.database.write_now(step)
        store.database.read(refuse_wrong_numbers)


def test_a_statement_that_is_refused_changes_no_number(
    store: Store, producer: Plain, admitted_task: Callable[..., str], completed_task: Callable[..., str]
) -> None:
    admitted_task("o-1")
    completed_task("o-2")
    for statement in ("DELETE FROM task_queue WHERE status = 'pending'",
                      "UPDATE task_queue SET status = 'processing'"):  # fmt: skip
        with pytest.raises(REFUSED):
            producer.execute(statement)
    producer.execute("DELETE FROM task_queue WHERE status = 'completed'")
    store.database.read(refuse_wrong_numbers)
    assert store.database.read(open_task_counts.open_tasks) == {("photography", "pending"): 1}


@pytest.mark.postgresql_only
def test_what_was_appended_is_folded_and_nothing_is_lost(
    store: Store, admitted_task: Callable[..., str]
) -> None:
    for n in range(5):
        admitted_task(f"o-{n}")
    appended = store.value("SELECT count(*) FROM task_count_delta")
    assert appended >= 5
    assert store.write(lambda tx: open_task_counts.fold(tx, 2).get()) == 2
    store.database.read(refuse_wrong_numbers)
    assert store.write(lambda tx: open_task_counts.fold(tx, 1000).get()) == appended - 2
    store.database.read(refuse_wrong_numbers)
    assert store.all("SELECT * FROM task_count") == [{"type": "photography", "status": "pending", "n": 5}]


def test_triggers_that_are_made_anew_count_anew(
    store: Store, producer: Plain, admitted_task: Callable[..., str]
) -> None:
    """The migration counts rows written between two releases' triggers, or without triggers."""
    admitted_task("o-1")
    producer.execute("UPDATE task_count SET n = n + 7")
    if store.database.read(lambda tx: tx.dialect.name) == "sqlite":
        producer.execute("DROP TRIGGER task_queue_counted")
    else:
        producer.execute("INSERT INTO task_count_delta VALUES ('photography', 'pending', 7)")
        producer.execute("UPDATE rule SET triggers = ''")
    migrate(store.settings)
    store.database.read(refuse_wrong_numbers)
