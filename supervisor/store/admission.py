"""Admit a pending task: check it, take its credits, make its work, give it its turn.

HTTP admits in the request's transaction; rows written by SQL are admitted by the dispatcher just before it picks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from config.settings import Settings
from supervisor.database import Row, Transaction
from supervisor.fair_order import turn_of_new_task
from supervisor.faults import BadParams, Fault, InsufficientCredits
from supervisor.ids import new_ulid
from supervisor.store import credits, images, tallies
from supervisor.store.rows import decoded, encoded
from supervisor.task_params import check_params

_COLUMNS = "id, user_openid, type, params, priority, run_after, charge, work_id, created_at"


@dataclasses.dataclass(frozen=True)
class Order:
    """What a checked task asks for.  price: credits for all its pictures."""

    params: dict[str, Any]
    count: int
    price: int


def check(tx: Transaction, settings: Settings, user: str, type_: str, params: dict[str, Any]) -> Order:
    """Whether this may be made at all.  Raises BadParams with the task's error code."""
    checked = check_params(type_, params, settings)
    for reference in checked.image_ids:
        if images.get(tx, reference, user) is None:
            raise BadParams(f"There is no image {reference}.", code="image_not_found")
    cost = settings.tasks[type_].cost_credits if settings.credits.enabled else 0
    return Order(params, checked.count, cost * checked.count)


def admit(tx: Transaction, settings: Settings, task: Row, order: Order) -> None:
    """Take the credits, make the work, fix the turn.  Raises InsufficientCredits and changes nothing."""
    user, charge = task["user_openid"], task["charge"]
    if order.price:
        balance = credits.balance(tx, user)
        if balance < order.price:
            raise InsufficientCredits(order.price, balance)
        credits.debit(tx, user, task["id"], charge, order.price)
    type_settings = settings.tasks[task["type"]]
    tx.execute(
        f"""UPDATE task_queue SET admitted_charge = charge, work_id = coalesce(work_id, ?), turn = ?,
            ready = (run_after IS NULL OR run_after <= {tx.now}), picture_count = ?, max_attempts = ?,
            expires_at = {_expiry(tx)}, updated_at = {tx.now}
        WHERE id = ? AND status = 'pending' AND admitted_charge <> charge""",
        new_ulid(), _turn(tx, task), order.count, type_settings.max_attempts, type_settings.expire_seconds, task["id"],
    )  # fmt: skip


def reject(tx: Transaction, task: Row, code: str, message: str) -> None:
    """Fail a pending task; its work is made all the same, so that its user sees why."""
    tx.execute(
        f"""UPDATE task_queue SET status = 'failed', stage = 'failed', error = ?, work_id = coalesce(work_id, ?),
            finished_at = {tx.now}, updated_at = {tx.now} WHERE id = ? AND status = 'pending'""",
        encoded({"code": code, "message": message}), new_ulid(), task["id"],
    )  # fmt: skip
    tallies.count(tx, "darkroom_tasks_finished_total", type=task["type"], outcome="failed")


def admit_waiting(tx: Transaction, settings: Settings, most: int) -> int:
    """Admit or reject rows that SQL has written, users in sorted order; how many there were."""
    rows = tx.all(
        f"""SELECT {_COLUMNS} FROM task_queue WHERE status = 'pending' AND admitted_charge <> charge
            ORDER BY user_openid, id LIMIT ?""",
        most,
    )
    for row in rows:
        try:
            order = check(tx, settings, row["user_openid"], row["type"], decoded(row["params"]))
            admit(tx, settings, row, order)
        except Fault as fault:
            reject(tx, row, error_code(fault), str(fault))
    return len(rows)


def error_code(fault: Fault) -> str:
    """The task's error.code for a fault of admission."""
    if isinstance(fault, BadParams):
        return fault.code
    return "insufficient_credits" if isinstance(fault, InsufficientCredits) else "bad_params"


def row_to_admit(tx: Transaction, task_id: str) -> Row:
    """The columns admission needs of one task."""
    row = tx.one(f"SELECT {_COLUMNS} FROM task_queue WHERE id = ?", task_id)
    assert row is not None
    return row


def _turn(tx: Transaction, task: Row) -> int:
    clock = tx.value("SELECT turn FROM fair_clock WHERE priority = ?", task["priority"]) or 0
    highest = tx.value(
        """SELECT max(turn) FROM task_queue WHERE user_openid = ? AND priority = ? AND id <> ?
            AND status IN ('pending','processing','ai_processing') AND admitted_charge = charge""",
        task["user_openid"], task["priority"], task["id"],
    )  # fmt: skip
    return turn_of_new_task(clock, highest)


def _expiry(tx: Transaction) -> str:
    # A task that was asked for a later time is not late before that time.
    soonest = f"max({tx.now}, coalesce(run_after, ''))"
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {soonest}, ? || ' seconds')"
