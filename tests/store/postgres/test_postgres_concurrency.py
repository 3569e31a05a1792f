"""Many writers at once on PostgreSQL: no deadlock reaches a caller, no seq has a gap, the ledger is exact."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest

from config.settings import Settings
from supervisor.core.claim import Claim
from supervisor.core.errors import Fault, LeaseLost
from supervisor.database.interface.database import Database, Transaction
from supervisor.database.open_database import open_database
from supervisor.store.counters import counters
from supervisor.store.feed import works
from supervisor.store.ledger import credits
from supervisor.store.queue import dispatch, leader, workers
from supervisor.store.tasks import admission, claims, idempotency_keys, submit, user_actions
from supervisor.store.tasks.new_task import Key
from tests.conftest import PARAMS, Store, processes, wait_until
from tests.support.workers import complete, report_progress

pytestmark = pytest.mark.postgresql_only

USERS = [f"o-{n}" for n in range(5)]
ROUNDS = 15
CLAIMED = "status = 'processing'"


def _settings(url: str) -> Settings:
    return Settings(database_url=url, limits={"open_tasks_per_user": 0, "pending_tasks": 0})


def _quietly(database: Database, step: Callable[[Transaction], Any]) -> Any:
    """What a step returns; None for what the rules refuse.  A deadlock would raise."""
    try:
        return database.write_now(step)
    except Fault:
        return None


def _submit(url: str, seed: int) -> int:
    """In a process of its own: batches of orders for users in any order; how many were accepted."""
    chance, settings = random.Random(seed), _settings(url)
    accepted = 0
    with contextlib.closing(open_database(url)) as database:
        for _ in range(ROUNDS):
            orders = [user_actions.NewTask(chance.choice(USERS), "photography", PARAMS) for _ in range(4)]
            outcomes = database.write_now(lambda tx, orders=orders: submit.submit_many(tx, settings, orders))
            accepted += sum(isinstance(each, submit.Submitted) for each in outcomes)
    return accepted


def _insert_by_sql(url: str, seed: int) -> int:
    """A program of its own: many rows in a statement, for several users, some of them new."""
    chance = random.Random(seed)
    with contextlib.closing(psycopg.connect(url, autocommit=True)) as producer:
        for _ in range(ROUNDS // 5):
            users = chance.sample([*USERS, "new-1", "new-2", "new-3"], 4)
            producer.execute(
                """INSERT INTO task_queue (user_openid, type, params)
                    SELECT (%s::text[])[1 + g %% 4], 'photography', '{"images":["https://example.org/p.jpg"]}'
                    FROM generate_series(1, 40) AS g""",
                (users,),
            )
    return 0


def _await(database: Database, sql: str, what: str) -> None:
    """No process ends its rounds before there is work, however unevenly the processes start."""
    wait_until(lambda: database.read(lambda tx: tx.value(sql)), what)


def _dispatch(url: str, seed: int) -> int:
    """A dispatcher that works only while it holds the term; how many tasks it has claimed for workers."""
    settings, claimed = _settings(url), 0
    with contextlib.closing(open_database(url)) as database:
        _await(database, "SELECT count(*) FROM worker WHERE state = 'live'", "a worker is there")
        _await(database, "SELECT count(*) FROM task_queue WHERE status = 'pending'", "a task waits")
        for _ in range(ROUNDS * 2):
            seen = database.read(leader.read)
            held = database.write_now(lambda tx, seen=seen: leader.take_over(tx, seen, f"d-{seed}"))
            if held is None:
                continue

            def decide(tx: Transaction, held: leader.Leadership = held) -> int:
                if not leader.is_held(tx, held).get():
                    return 0
                admission.admit_waiting(tx, settings, 50).get()
                dispatch.ripen(tx)
                return len(dispatch.pick_and_claim(tx, settings).claims)

            claimed += database.write_now(decide)
            database.write_now(lambda tx: counters.fold(tx, 100))
    return claimed


def _work(url: str, seed: int) -> int:
    """A worker: ends its claims in any of the ways; how many it had."""
    chance, name, claimed = random.Random(seed), f"worker-{seed}", 0
    with contextlib.closing(open_database(url)) as database:
        database.write_now(lambda tx: workers.register(tx, name, host="here", pid=seed, slots=30))
        _await(database, f"SELECT count(*) FROM task_queue WHERE {CLAIMED}", "a task is claimed")
        for _ in range(ROUNDS * 8):
            held = [each for each in database.read(lambda tx: claims.held_by(tx, name)) if not each.is_poll]
            if not held:
                continue
            claim = chance.choice(held)
            claimed += 1
            end: Callable[..., Any] = chance.choice(
                [
                    lambda tx, id_, lease: complete(tx, id_, lease, []),
                    lambda tx, id_, lease: claims.fail(tx, id_, lease, "internal", "It broke."),
                    lambda tx, id_, lease: claims.release(tx, id_, lease),
                    lambda tx, id_, lease: report_progress(tx, id_, lease, 50, "half"),
                ]
            )
            with contextlib.suppress(LeaseLost):
                database.write_now(functools.partial(end, id_=claim.task_id, lease=claim.lease))
    return claimed


def _change(url: str, seed: int) -> int:
    """Users and programs that cancel, retry and delete tasks, one by one and many at once."""
    chance, settings = random.Random(seed), _settings(url)
    with contextlib.closing(open_database(url)) as database:
        for _ in range(ROUNDS * 2):
            rows = database.read(lambda tx: tx.all("SELECT id, status, work_id, user_openid FROM task_queue"))
            if not rows:
                continue
            row = chance.choice(rows)
            if row["status"] in ("failed", "cancelled"):
                _quietly(database, lambda tx, row=row: user_actions.resubmit(tx, settings, row["id"]))
            elif row["work_id"] and chance.random() < 0.2:
                _quietly(database, lambda tx, row=row: works.delete(tx, row["work_id"], row["user_openid"]))
            else:
                _quietly(database, lambda tx, row=row: user_actions.cancel(tx, row["id"]))
    return 0


def _one(job: tuple[Callable[[str, int], int], str, int]) -> int:
    run, url, seed = job
    return run(url, seed)


def _check(store: Store) -> None:
    """What must be true of money and change log whatever has happened."""
    assert (
        store.all(
            """SELECT user_openid FROM account WHERE balance <> (SELECT coalesce(sum(amount), 0) FROM credit_entry
                WHERE credit_entry.user_openid = account.user_openid)"""
        )
        == []
    )
    assert (
        store.all(
            """SELECT user_openid FROM account WHERE
                (SELECT array_agg(work_change.seq ORDER BY log_id) FROM work_change
                 WHERE work_change.user_openid = account.user_openid)
                IS DISTINCT FROM (SELECT array_agg(n) FROM generate_series(1, account.seq) AS n)"""
        )
        == []
    ), "seq has no gap and follows the order of writing"
    owed = """SELECT task_queue.id FROM task_queue WHERE {} <> (SELECT coalesce(sum(amount), 0) FROM credit_entry
        WHERE credit_entry.task_id = task_queue.id AND credit_entry.charge = task_queue.charge)"""
    assert store.all(f"{owed.format(0)} AND status IN ('failed', 'cancelled')") == []
    paid = "status NOT IN ('failed', 'cancelled') AND admitted_charge = charge"
    assert store.all(f"{owed.format(-1)} AND {paid}") == []


def test_all_writers_at_once_meet_no_deadlock_and_lose_no_change_and_no_credit(store: Store) -> None:
    url = store.settings.database_url
    store.write(lambda tx: tx.execute("UPDATE rule SET signup_grant = 150"))
    crew: Sequence[Callable[[str, int], int]] = (
        _submit, _submit, _insert_by_sql, _dispatch, _dispatch, _work, _work, _change
    )  # fmt: skip
    with processes(len(crew)) as pool:
        results = list(pool.map(_one, [(run, url, seed) for seed, run in enumerate(crew)]))
    assert results[0] + results[1] > 0 and results[3] + results[4] > 0 and results[5] + results[6] > 0
    _check(store)
    attempts = store.value("SELECT sum(attempt) FROM task_queue")
    assert attempts == results[3] + results[4], "each attempt is one claim"
    counted = store.database.read(counters.read_all)
    finished = sum(
        values[""] for (name, _), values in counted.items() if name == "darkroom_tasks_finished_total"
    )
    ended = store.value("SELECT count(*) FROM credit_entry WHERE kind = 'refund'")
    assert counted[("darkroom_refunds_total", "{}")][""] == ended and finished > 0


def test_a_bulk_statement_and_single_steps_of_the_same_users_both_go_through(store: Store) -> None:
    """One program cancels everything at once while others submit for the same users."""
    url = store.settings.database_url
    with processes(3) as pool:
        running = [pool.submit(_submit, url, seed) for seed in (1, 2)]
        with contextlib.closing(psycopg.connect(url, autocommit=True)) as program:
            while not all(each.done() for each in running):
                program.execute(
                    """UPDATE task_queue SET status = 'cancelled', stage = 'cancelled', finished_at = darkroom_now()
                        WHERE id IN (SELECT id FROM task_queue WHERE status = 'pending'
                                     ORDER BY user_openid, id FOR UPDATE)"""
                )
        assert sum(each.result() for each in running) > 0
    _check(store)


def test_a_thousand_rows_of_many_users_are_one_change_each_in_order(store: Store) -> None:
    orders = [user_actions.NewTask(f"o-{n % 7}", "photography", PARAMS) for n in range(1000)]
    store.settings = Settings(
        database_url=store.settings.database_url, limits={"open_tasks_per_user": 0, "pending_tasks": 0}
    )
    store.write(lambda tx: tx.execute("UPDATE rule SET signup_grant = 1000"))
    outcomes = store.write(lambda tx: submit.submit_many(tx, store.settings, orders))
    assert all(isinstance(each, submit.Submitted) for each in outcomes)
    store.write(
        lambda tx: tx.execute(
            "UPDATE task_queue SET status = 'cancelled', stage = 'cancelled', finished_at = darkroom_now()"
        )
    )
    _check(store)
    rows = store.all("SELECT user_openid, balance, seq FROM account ORDER BY user_openid")
    assert [(row["balance"], row["seq"]) for row in rows] == [(1000, 286)] * 6 + [(1000, 284)]


def _keyed(url: str, seed: int) -> str:
    key = Key("o-1", "POST", "/v1/tasks", "the same", "hash")
    new = user_actions.NewTask("o-1", "photography", PARAMS, key=key)
    with contextlib.closing(open_database(url)) as database:
        return str(database.write_now(lambda tx: user_actions.submit(tx, _settings(url), new))["task_id"])


def test_twins_with_one_key_make_one_task(store: Store) -> None:
    """Neither user nor key was ever seen: the second one waits for the first and is given its task."""
    with processes(4) as pool:
        made = set(pool.map(_keyed, [store.settings.database_url] * 4, range(4)))
    assert len(made) == 1 == store.value("SELECT count(*) FROM task_queue")
    assert store.value("SELECT count(*) FROM credit_entry WHERE kind = 'debit'") == 1


def _retry_once(url: str, task_id: str) -> bool:
    key = Key("o-1", "POST", f"/v1/tasks/{task_id}/retry", "again", "hash")
    with contextlib.closing(open_database(url)) as database:
        _, is_replay = database.write_now(
            lambda tx: idempotency_keys.once(
                tx, key, lambda tx: user_actions.resubmit(tx, _settings(url), task_id)
            )
        )
    return is_replay


def test_a_retry_that_is_sent_twice_is_one_retry(store: Store, cancelled_task: Callable[..., str]) -> None:
    task_id = cancelled_task()
    with processes(4) as pool:
        replays = list(pool.map(_retry_once, [store.settings.database_url] * 4, [task_id] * 4))
    assert sorted(replays) == [False, True, True, True]
    assert store.task(task_id)["charge"] == 2


def test_a_pick_skips_locked_rows_and_waits_for_no_lock(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker()
    held, free = admitted_task("o-1"), admitted_task("o-2")
    with contextlib.closing(psycopg.connect(store.settings.database_url)) as somebody:
        somebody.execute("SELECT 1 FROM task_queue WHERE id = %s FOR UPDATE", (held,))
        assert [hint.task_id for hint in store.dispatch()] == [free]
        somebody.rollback()  # awaited; a server notices a closed connection in its own time
    assert [hint.task_id for hint in store.dispatch()] == [held]


def test_a_rescue_never_takes_a_task_that_its_worker_is_just_ending(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))

    def end_slowly(tx: Transaction) -> None:
        complete(tx, claim.task_id, claim.lease, [])
        assert _rescued(store.settings.database_url) == []

    store.write(end_slowly)
    assert _rescued(store.settings.database_url) == []
    assert store.task(claim.task_id)["status"] == "completed"
    assert store.balance() == 99


def _rescued(url: str) -> list[Any]:
    from supervisor.store.recovery import stuck_tasks

    with contextlib.closing(open_database(url)) as database:
        return database.write_now(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5))


def test_opening_an_account_twice_at_once_grants_once(store: Store) -> None:
    with processes(4) as pool:
        list(pool.map(_open, [store.settings.database_url] * 4))
    assert store.balance("new") == 100
    assert store.value("SELECT count(*) FROM credit_entry") == 1


def _open(url: str) -> None:
    with contextlib.closing(open_database(url)) as database:
        database.write_now(lambda tx: credits.ensure_account(tx, "new"))
