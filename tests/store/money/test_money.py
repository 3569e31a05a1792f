"""Money: debited exactly once, refunded exactly once, and never from an empty account."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from supervisor.core.claim import Claim
from supervisor.core.errors import InsufficientCredits
from supervisor.database.interface.database import Database
from supervisor.database.open_database import open_database
from supervisor.schema.migrate import migrate
from supervisor.store.ledger import credits
from supervisor.store.recovery import stuck_tasks
from supervisor.store.tasks import admission, claims, submit, user_actions
from tests.conftest import PARAMS, Clock, Store, processes
from tests.support.databases import INSERTS, POSTGRESQL, REFUSED, SQLITE, UPDATES, Plain, plain_connection

PROCESSES = 8


def _spend(folder: Path, url: str, user: str, tasks_each: int) -> int:
    """In a process of its own: submit until refused; how many were accepted."""
    settings = Settings(data_dir=folder, database_url=url, limits={"open_tasks_per_user": 0})
    database = open_database(settings)
    accepted = 0
    for _ in range(tasks_each):
        with contextlib.suppress(InsufficientCredits):
            database.write(
                lambda tx: user_actions.submit(
                    tx, settings, user_actions.NewTask(user, "photography", PARAMS)
                )
            ).result()
            accepted += 1
    database.close()
    return accepted


def test_two_tasks_never_spend_the_same_last_credit(store: Store) -> None:
    """Eight processes ask for 48 pictures; 7 credits buy 7."""
    store.write(lambda tx: tx.execute("UPDATE rule SET signup_grant = 7"))
    with processes(PROCESSES) as pool:
        spend = functools.partial(_spend, store.settings.data_dir, store.settings.database_url, "o-1")
        accepted = sum(pool.map(spend, [6] * PROCESSES))
    assert accepted == 7
    assert store.balance("o-1") == 0
    assert store.value("SELECT count(*) FROM task_queue") == 7
    assert store.value("SELECT count(*) FROM credit_entry WHERE kind = 'debit'") == 7
    assert store.value("SELECT count(*) FROM credit_entry WHERE kind = 'grant'") == 1


def test_orders_of_one_batch_never_spend_the_same_last_credit(store: Store) -> None:
    """Submitted in one go: 5 credits for two users each, 4 orders of 2 credits each."""
    store.write(lambda tx: tx.execute("UPDATE rule SET signup_grant = 5"))
    orders = [user_actions.NewTask(user, "photography", {**PARAMS, "count": 2}) for user in ("a", "b") * 4]
    outcomes = store.write(lambda tx: submit.submit_many(tx, store.settings, orders))
    accepted = [isinstance(each, submit.Submitted) for each in outcomes]
    assert accepted == [True] * 4 + [False] * 4
    assert all(isinstance(each, InsufficientCredits) for each in outcomes[4:])
    assert store.balance("a") == store.balance("b") == 1
    assert store.value("SELECT count(*) FROM task_queue") == store.value("SELECT count(*) FROM works") == 4


def test_an_order_that_the_database_refuses_fails_no_other_of_its_batch(store: Store) -> None:
    orders = [
        user_actions.NewTask("a", "photography", PARAMS, task_id="twice"),
        user_actions.NewTask("b", "photography", PARAMS),
        user_actions.NewTask("c", "photography", PARAMS, task_id="twice"),
        user_actions.NewTask("d", "photography", {"images": []}),
    ]
    first, second, third, fourth = store.write(lambda tx: submit.submit_many(tx, store.settings, orders))
    assert isinstance(first, submit.Submitted) and isinstance(second, submit.Submitted)
    assert isinstance(third, Exception) and isinstance(fourth, Exception)
    assert [store.balance(user) for user in "ab"] == [99, 99]
    rows = store.all("SELECT user_openid FROM task_queue ORDER BY user_openid")
    assert [row["user_openid"] for row in rows] == ["a", "b"]
    assert store.value("SELECT count(*) FROM credit_entry WHERE kind = 'debit'") == 2


def test_making_the_account_makes_the_signup_grant_once(
    store: Store, producer: Plain, pending_task: Callable[..., str]
) -> None:
    pending_task("by-sql")
    for _ in range(2):
        store.write(lambda tx: credits.ensure_account(tx, "by-http"))
        store.write(lambda tx: credits.ensure_account(tx, "by-sql"))
    for user in ("by-sql", "by-http"):
        assert store.balance(user) == 100
        assert store.value("SELECT count(*) FROM credit_entry WHERE user_openid = ?", user) == 1
    with pytest.raises(REFUSED, match="this grant was made already"):
        producer.execute(
            """INSERT INTO credit_entry (user_openid, kind, amount, reference)
                VALUES ('by-sql', 'grant', 100, 'signup')"""
        )


def _with(settings: Settings, **changed: Any) -> Settings:
    return Settings(data_dir=settings.data_dir, database_url=settings.database_url, **changed)


def test_without_credits_nothing_is_granted_taken_or_given_back(store: Store) -> None:
    settings = _with(store.settings, credits={"enabled": False})
    migrate(settings)
    new = user_actions.NewTask("o-1", "photography", PARAMS)
    task_id = store.write(lambda tx: user_actions.submit(tx, settings, new))["task_id"]
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    assert store.value("SELECT count(*) FROM credit_entry") == 0


def test_a_grant_with_a_used_reference_changes_nothing(
    store: Store, producer: Plain, database_kind: str
) -> None:
    assert store.write(lambda tx: credits.grant(tx, "o-1", 50, "command:invoice 7"))
    assert not store.write(lambda tx: credits.grant(tx, "o-1", 50, "command:invoice 7"))
    assert store.balance() == 150
    with pytest.raises(REFUSED, match="this grant was made already"):
        producer.execute(
            f"""{INSERTS[database_kind][-1]} INTO credit_entry (user_openid, kind, amount, reference)
                VALUES ('o-1', 'grant', 50, 'command:invoice 7')"""
        )
    assert store.balance() == 150


def test_of_two_users_with_one_grant_at_once_the_refused_one_keeps_nothing(
    store: Store, database: Database
) -> None:
    for round_ in range(30):
        meeting = threading.Barrier(2)

        def grant(user: str, reference: str = f"http:{round_}", meeting: threading.Barrier = meeting) -> Any:
            meeting.wait(30)
            return database.write_now(lambda tx: credits.grant_once(tx, user, 5, reference))

        users = [f"a-{round_}", f"b-{round_}"]
        with ThreadPoolExecutor(2) as threads:
            first, second = threads.map(grant, users)
        assert first.user == second.user and first.is_new is not second.is_new
        accounts = store.all("SELECT user_openid FROM account WHERE user_openid IN (?, ?)", *users)
        assert [row["user_openid"] for row in accounts] == [first.user]


def test_the_debit_is_cost_times_count_and_made_at_admission(
    store: Store, pending_task: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    by_sql = pending_task("o-1", params='{"images":["https://example.org/p.jpg"],"count":3}')
    assert store.entries(by_sql) == []
    store.admit_waiting()
    assert store.entries(by_sql) == [(1, "debit", -3)]
    by_http = admitted_task("o-1", count=2)
    assert store.entries(by_http) == [(1, "debit", -2)]
    assert store.balance() == 95


def test_too_few_credits_store_nothing_over_http_and_fail_the_task_by_sql(
    store: Store, pending_task: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    store.write(lambda tx: tx.execute("UPDATE rule SET signup_grant = 1"))
    with pytest.raises(InsufficientCredits, match=r"This costs 2 credits and the balance is 1\."):
        admitted_task("o-1", count=2)
    assert store.value("SELECT count(*) FROM task_queue") == store.value("SELECT count(*) FROM account") == 0
    task_id = pending_task("o-1", params='{"images":["https://example.org/p.jpg"],"count":2}')
    store.admit_waiting()
    assert store.task(task_id)["status"] == store.work(task_id)["status"] == "failed"
    assert '"insufficient_credits"' in str(store.work(task_id)["error"])
    assert store.entries(task_id) == [] and store.balance() == 1


def test_every_way_to_failed_or_cancelled_refunds_the_debit(
    store: Store,
    clock: Clock,
    admitted_task: Callable[..., str],
    claimed_task: Callable[..., Claim],
    handed_off_task: Callable[..., str],
    polled_task: Callable[..., tuple[str, int]],
    failed_task: Callable[..., str],
) -> None:
    ended = [failed_task(count=2)]
    waiting, running, remote = (
        admitted_task(count=2),
        claimed_task(count=2).task_id,
        handed_off_task(count=2, poll_in_seconds=900),
    )
    for task_id in (waiting, running, remote):
        store.write(lambda tx, task_id=task_id: user_actions.cancel(tx, task_id))
        ended.append(task_id)
    polled, lease = polled_task(count=2)
    store.write(lambda tx: claims.fail(tx, polled, lease, "remote_lost", "The service forgot it."))
    ended.append(polled)
    ended += [admitted_task(count=2), claimed_task(count=2).task_id]
    clock.advance(86_500)
    store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5))
    for task_id in ended:
        assert store.task(task_id)["status"] in ("failed", "cancelled")
        assert store.entries(task_id) == [(1, "debit", -2), (1, "refund", 2)]
    assert store.balance() == 100


def test_the_refund_equals_the_debit_under_any_later_settings(store: Store) -> None:
    dear = _with(store.settings, tasks={"photography": {"cost_credits": 5}})
    new = user_actions.NewTask("o-1", "photography", PARAMS)
    task_id = store.write(lambda tx: user_actions.submit(tx, dear, new))["task_id"]
    with contextlib.closing(plain_connection(store.settings)) as plain:
        plain.execute(
            "UPDATE task_queue SET status = 'cancelled', finished_at = '2026-11-05T08:00:00.000Z' WHERE id = ?",
            (task_id,),
        )
    assert store.entries(task_id) == [(1, "debit", -5), (1, "refund", 5)]


def test_a_completed_task_keeps_its_price_and_gives_back_the_missing_pictures(
    store: Store, completed_task: Callable[..., str]
) -> None:
    whole, partly, nothing = (
        completed_task(count=3),
        completed_task(count=3, missing=2),
        completed_task(count=3),
    )
    assert store.entries(whole) == store.entries(nothing) == [(1, "debit", -3)]
    assert store.entries(partly) == [(1, "debit", -3), (1, "refund", 2)]
    assert store.balance() == 100 - 3 - 1 - 3


def test_a_resubmission_is_a_new_charge_that_is_paid_and_refunded_by_itself(
    store: Store, failed_task: Callable[..., str], producer: Plain
) -> None:
    task_id = failed_task()
    store.write(lambda tx: user_actions.resubmit(tx, store.settings, task_id))
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    producer.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (task_id,))
    assert len(store.entries(task_id)) == 4  # by SQL: debited at admission, not before
    store.admit_waiting()
    assert store.entries(task_id) == [
        (1, "debit", -1), (1, "refund", 1), (2, "debit", -1), (2, "refund", 1), (3, "debit", -1)
    ]  # fmt: skip


def test_a_retry_without_credits_leaves_the_task_as_it_is(
    store: Store, failed_task: Callable[..., str]
) -> None:
    task_id = failed_task()
    new = user_actions.NewTask("o-1", "photography", {**PARAMS, "count": 8})
    for _ in range(12):
        store.write(lambda tx: user_actions.submit(tx, store.settings, new))
    for _ in range(4):
        store.write(
            lambda tx: user_actions.submit(
                tx, store.settings, user_actions.NewTask("o-1", "photography", PARAMS)
            )
        )
    before = store.task(task_id)
    with pytest.raises(InsufficientCredits):
        store.write(lambda tx: user_actions.resubmit(tx, store.settings, task_id))
    assert store.task(task_id) == before


def test_a_task_is_neither_picked_nor_claimed_before_its_charge_is_admitted(
    store: Store,
    pending_task: Callable[..., str],
    failed_task: Callable[..., str],
    live_worker: Callable[..., str],
    producer: Plain,
) -> None:
    live_worker()
    retried, new = failed_task(), pending_task()
    producer.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (retried,))
    assert store.dispatch() == []
    for task_id in (retried, new):
        row = store.task(task_id)
        assert row["charge"] == row["admitted_charge"] + 1
        wanted = claims.Wanted(row["id"], "worker-1", 9)
        assert store.write(lambda tx, wanted=wanted: claims.claim_for(tx, [wanted]).get()) == []
        with pytest.raises(REFUSED, match="no such step"):
            producer.execute(
                """UPDATE task_queue SET status = 'processing', lease = lease + 1, attempt = attempt + 1,
                    worker_id = 'w', deadline_at = '2026-11-05' WHERE id = ?""",
                (task_id,),
            )
    store.admit_waiting()
    assert {hint.task_id for hint in store.dispatch()} == {retried, new}


# --- entries that the ledger refuses from every writer ---


def _ledger(store: Store) -> tuple[list[Any], list[Any]]:
    return store.all("SELECT * FROM credit_entry ORDER BY id"), store.all("SELECT * FROM account")


def test_a_second_debit_or_refund_of_a_charge_is_refused(
    store: Store, cancelled_task: Callable[..., str], producer: Plain, database_kind: str
) -> None:
    task_id = cancelled_task(count=2)
    before = _ledger(store)
    for verb, (kind, amount) in itertools.product(
        INSERTS[database_kind], (("debit", -2), ("refund", 2), ("debit", -1), ("refund", 1))
    ):
        with pytest.raises(REFUSED, match="such an entry already"):
            producer.execute(
                f"""{verb} INTO credit_entry (user_openid, task_id, charge, kind, amount)
                    VALUES ('o-1', ?, 1, ?, ?)""",
                (task_id, kind, amount),
            )
    assert _ledger(store) == before


def test_the_ledger_refuses_an_undue_refund(store: Store, producer: Plain, database_kind: str) -> None:
    store.write(lambda tx: credits.ensure_account(tx, "o-2"))
    store.write(lambda tx: credits.ensure_account(tx, "o-1"))
    store.write(
        lambda tx: tx.execute(
            "INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount) VALUES ('o-1', ?, 1, 'debit', ?)",
            "task-1",
            -2,
        )
    )
    before = _ledger(store)
    refused = [
        ("'o-1', :task, 1, 'refund', 3", "never above it"),
        ("'o-1', :task, 2, 'refund', 1", "a refund needs a debit"),
        ("'o-1', 'no-such-task', 1, 'refund', 1", "a refund needs a debit"),
        ("'o-2', :task, 1, 'refund', 1", "a refund needs a debit of the same user"),
        ("'o-1', NULL, NULL, 'refund', 1", "name their task and charge"),
        ("'o-1', NULL, NULL, 'debit', -1", "name their task and charge"),
        ("'o-1', 'other', 1, 'debit', -99", "insufficient credits"),
        ("'o-1', NULL, NULL, 'grant', -99", "insufficient credits"),
        ("'nobody', NULL, NULL, 'grant', 5", "the user has no account"),
        ("'o-1', NULL, NULL, 'grant', NULL", "amount"),
        ("'o-1', NULL, NULL, 'grant', 'many'", "amount must be a whole number|invalid input syntax"),
    ]
    if database_kind == SQLITE:  # elsewhere the column's type rounds it
        refused += [("'o-1', NULL, NULL, 'grant', 1.5", "amount must be a whole number")]
    for verb, (columns, why) in itertools.product(INSERTS[database_kind], refused):
        with pytest.raises(REFUSED, match=why):
            producer.execute(
                f"{verb} INTO credit_entry (user_openid, task_id, charge, kind, amount) VALUES ({columns})",
                {"task": "task-1"},
            )
        assert _ledger(store) == before


def test_an_amount_has_the_sign_of_its_kind(store: Store, producer: Plain) -> None:
    store.write(lambda tx: credits.ensure_account(tx, "o-1"))
    before = _ledger(store)
    for kind, amount in (("grant", 0), ("grant", -5), ("debit", 5), ("bonus", 5)):
        with pytest.raises(REFUSED):
            producer.execute(
                """INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount)
                    VALUES ('o-1', 't', 1, ?, ?)""",
                (kind, amount),
            )
        assert _ledger(store) == before


@pytest.mark.sqlite_only
@pytest.mark.parametrize("entry_id", ["1", "-1", "-7", "0", "'1'", "(SELECT max(id) FROM credit_entry)"])
def test_no_entry_takes_the_place_of_another(entry_id: str, store: Store, producer: Plain) -> None:
    store.write(lambda tx: credits.ensure_account(tx, "o-1"))
    store.write(lambda tx: credits.grant(tx, "o-1", 5, "one"))
    before = _ledger(store)[0]
    for verb in INSERTS[SQLITE] * 2:
        with contextlib.suppress(REFUSED):
            producer.execute(
                f"{verb} INTO credit_entry (id, user_openid, kind, amount) VALUES ({entry_id}, 'o-1', 'grant', 9)"
            )
        assert _ledger(store)[0][: len(before)] == before
        store.balance("o-1")


def test_the_ledger_is_append_only(store: Store, producer: Plain, database_kind: str) -> None:
    store.write(lambda tx: credits.ensure_account(tx, "o-1"))
    before = _ledger(store)
    overriding = "" if database_kind == SQLITE else "OVERRIDING SYSTEM VALUE"
    for statement in (
        *(f"{verb} credit_entry SET amount = 1" for verb in UPDATES[database_kind]),
        *(f"{verb} credit_entry SET user_openid = 'x'" for verb in UPDATES[database_kind]),
        "DELETE FROM credit_entry",
        f"""INSERT INTO credit_entry (id, user_openid, kind, amount) {overriding} VALUES (1, 'o-1', 'grant', 1)
            ON CONFLICT (id) DO UPDATE SET amount = 1000""",
    ):
        with pytest.raises(REFUSED):
            producer.execute(statement)
        assert _ledger(store) == before


def test_the_balance_is_moved_by_the_ledger_alone(
    store: Store, admitted_task: Callable[..., str], producer: Plain, database_kind: str
) -> None:
    admitted_task()
    before = _ledger(store)
    for statement in (
        *(f"{verb} account SET balance = balance + 1" for verb in UPDATES[database_kind]),
        *(f"{verb} account SET balance = 0" for verb in UPDATES[database_kind]),
        *(f"{verb} account SET balance = NULL" for verb in UPDATES[database_kind]),
        *(f"{verb} account SET seq = NULL" for verb in UPDATES[database_kind]),
        "UPDATE account SET seq = seq - 1",
        "UPDATE account SET user_openid = 'thief'",
        "DELETE FROM account",
        *(f"{verb} INTO account (user_openid) VALUES ('o-1')" for verb in INSERTS[database_kind]),
        *(
            f"{verb} INTO account (user_openid, balance) VALUES ('o-1', 1000)"
            for verb in INSERTS[database_kind]
        ),
        "INSERT INTO account (user_openid) VALUES ('o-1') ON CONFLICT (user_openid) DO UPDATE SET balance = 1000",
        *(
            f"{verb} INTO account (user_openid, balance) VALUES ('o-9', 1000)"
            for verb in INSERTS[database_kind]
        ),
        *(f"{verb} INTO account (user_openid, seq) VALUES ('o-9', 7)" for verb in INSERTS[database_kind]),
    ):
        with pytest.raises(REFUSED):
            producer.execute(statement)
        assert _ledger(store) == before
    admitted_task()
    assert store.balance() == 98


def test_a_refund_under_or_replace_is_made_once(
    store: Store, admitted_task: Callable[..., str], producer: Plain, database_kind: str
) -> None:
    """The conflict clause of the outer statement overrides those of its triggers."""
    for verb in UPDATES[database_kind]:
        task_id = admitted_task()
        ended = "status = 'cancelled', finished_at = '2026-11-05T08:00:00.000Z'"
        producer.execute(f"{verb} task_queue SET {ended} WHERE id = ?", (task_id,))
        producer.execute(f"{verb} task_queue SET {ended} WHERE id = ?", (task_id,))
        assert store.entries(task_id) == [(1, "debit", -1), (1, "refund", 1)]
    assert store.balance() == 100


def test_a_refused_admission_leaves_no_debit_behind(
    store: Store, producer: Plain, pending_task: Callable[..., str], database_kind: str
) -> None:
    """The debit comes first; whatever the database refuses after it takes it back."""
    task_id = pending_task()
    refuse, allow = {
        SQLITE: (
            """CREATE TRIGGER refuse BEFORE UPDATE OF admitted_charge ON task_queue BEGIN
                SELECT RAISE(ABORT, 'for the test'); END""",
            "DROP TRIGGER refuse",
        ),
        POSTGRESQL: (
            "ALTER TABLE task_queue ADD CONSTRAINT refuse CHECK (admitted_charge = 0 OR status = 'failed')",
            "ALTER TABLE task_queue DROP CONSTRAINT refuse",
        ),
    }[database_kind]
    producer.execute(refuse)
    store.write(lambda tx: admission.admit_waiting(tx, store.settings, 10).get().rows)
    producer.execute(allow)
    assert store.task(task_id)["status"] == "failed"
    assert store.entries(task_id) == [] and store.balance() == 100


def test_a_statement_shows_the_balance_and_its_reasons(
    store: Store, cancelled_task: Callable[..., str]
) -> None:
    task_id = cancelled_task()
    statement = store.database.read(lambda tx: credits.statement(tx, "o-1"))
    assert statement["balance"] == 100
    assert [(e["kind"], e["amount"], e["task_id"]) for e in statement["entries"]] == [
        ("refund", 1, task_id), ("debit", -1, task_id), ("grant", 100, None)
    ]  # fmt: skip


def _instructions(connection: sqlite3.Connection, statement: str) -> int:
    """What a statement costs, in tens of instructions of SQLite's machine; it is taken back."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    connection.execute("BEGIN")
    connection.set_progress_handler(step, 10)
    connection.execute(statement)
    connection.set_progress_handler(None, 0)
    connection.execute("ROLLBACK")
    return count


@pytest.mark.sqlite_only
def test_an_entry_costs_the_same_however_long_the_ledger_is(
    store: Store, producer: sqlite3.Connection
) -> None:
    store.write(lambda tx: credits.ensure_account(tx, "o-1"))
    columns = "INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount, reference)"
    statements = [
        f"{columns} VALUES ('o-1', 'new', 1, 'debit', -1, NULL)",
        f"{columns} VALUES ('o-1', NULL, NULL, 'grant', 1, 'new')",
        "INSERT INTO account (user_openid) VALUES ('new')",
        "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-1', 'photography', '{}')",
    ]
    short = [_instructions(producer, each) for each in statements]
    producer.execute(
        f"""WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
            {columns} SELECT 'o-1', 't-' || i, 1, 'grant', 1, 'r-' || i FROM n"""
    )
    for before, statement in zip(short, statements, strict=True):
        assert _instructions(producer, statement) <= before + 20, statement
