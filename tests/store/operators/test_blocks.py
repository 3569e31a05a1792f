"""Rows of a blocked user fail at their admission, at no cost; what is open goes on."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from supervisor.core.errors import UserBlocked
from supervisor.store.limits import blocks
from supervisor.store.operators import administration, audit
from supervisor.store.operators.audit import Operator
from supervisor.store.tasks import user_actions
from supervisor.store.tasks.submit import insert_unadmitted
from tests.conftest import PARAMS, Store
from tests.support.databases import Plain

ADMIN = Operator("bob", "admin")


def block(store: Store, user: str = "o-1") -> None:
    store.write(lambda tx: administration.block(tx, ADMIN, user, "stolen card"))


def test_a_row_by_sql_fails_and_costs_nothing(store: Store, pending_task: Callable[..., str]) -> None:
    block(store)
    mine, others = pending_task(), pending_task("o-2")
    store.admit_waiting()
    row = store.task(mine)
    assert (row["status"], json.loads(json.dumps(store.work(mine)["status"]))) == ("failed", "failed")
    error = row["error"] if isinstance(row["error"], dict) else json.loads(row["error"])
    assert error["code"] == "user_blocked" and "o-1" in error["message"]
    assert store.entries(mine) == [] and store.balance("o-1") == 100
    assert store.task(others)["status"] == "pending" and store.balance("o-2") == 99


def test_the_account_of_a_user_who_was_never_seen_can_be_blocked(
    store: Store, pending_task: Callable[..., str]
) -> None:
    block(store, "o-new")
    task_id = pending_task("o-new")
    store.admit_waiting()
    assert store.task(task_id)["status"] == "failed"


def test_an_order_of_a_blocked_user_is_refused_and_one_by_dramatiq_becomes_a_failed_task(
    store: Store,
) -> None:
    block(store)
    new = user_actions.NewTask("o-1", "photography", PARAMS, task_id="m-1")
    with pytest.raises(UserBlocked, match="o-1"):
        store.write(lambda tx: user_actions.submit(tx, store.settings, new))
    assert store.write(lambda tx: insert_unadmitted(tx, new)) == "m-1"
    store.admit_waiting()
    assert store.task("m-1")["status"] == "failed" and store.entries("m-1") == []


def test_a_retry_is_refused_and_one_by_sql_fails_again_without_a_charge(
    store: Store, failed_task: Callable[..., str], producer: Plain
) -> None:
    task_id = failed_task()
    block(store)
    with pytest.raises(UserBlocked):
        store.write(lambda tx: user_actions.resubmit(tx, store.settings, task_id))
    assert store.task(task_id)["charge"] == 1
    producer.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (task_id,))
    store.admit_waiting()
    assert (store.task(task_id)["status"], store.balance()) == ("failed", 100)
    assert [entry for entry in store.entries(task_id) if entry[0] == 2] == []


def test_open_tasks_go_on(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker()
    task_id = admitted_task()
    block(store)
    assert [claim.task_id for claim in store.dispatch()] == [task_id]
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    assert store.balance() == 100


def test_a_block_that_changes_nothing_is_not_recorded_again(store: Store) -> None:
    block(store)
    block(store)
    assert store.write(lambda tx: administration.unblock(tx, ADMIN, "o-1"))
    assert not store.write(lambda tx: administration.unblock(tx, ADMIN, "o-1"))
    rows = store.database.read(lambda tx: audit.newest(tx, 10))
    assert [(row["action"], row["target"], row["role"]) for row in rows] == [
        ("unblock", "o-1", "admin"),
        ("block", "o-1", "admin"),
    ]
    assert store.database.read(lambda tx: blocks.all_blocked(tx, 10)) == []
