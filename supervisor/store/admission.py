"""Admit a pending task: check it, take its credits, make its work, give it its turn.

HTTP admits in the request's transaction; rows written by SQL are admitted by the dispatcher just before it picks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import peewee

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
    return Order(params, checked.count, price_of(settings, type_, checked.count))


def price_of(settings: Settings, type_: str, count: int) -> int:
    """Credits for so many pictures; nothing where credits are turned off."""
    return settings.tasks[type_].cost_credits * count if settings.credits.enabled else 0


def admit(tx: Transaction, settings: Settings, task: Row, order: Order) -> Row:
    """Take the credits, make the work, fix the turn; the task's row.  Raises InsufficientCredits, changes nothing."""
    user, charge = task["user_openid"], task["charge"]
    if order.price:
        balance = credits.balance(tx, user)
        if balance < order.price:
            raise InsufficientCredits(order.price, balance)
        credits.debit(tx, user, task["id"], charge, order.price)
    type_settings = settings.tasks[task["type"]]
    row = tx.one(
        f"""UPDATE task_queue SET admitted_charge = charge, work_id = coalesce(work_id, ?), turn = ?,
            ready = (run_after IS NULL OR run_after <= {tx.now}), picture_count = ?, max_attempts = ?,
            expires_at = {expiry(tx, "?")}, updated_at = {tx.now}
        WHERE id = ? AND status = 'pending' AND admitted_charge <> charge RETURNING *""",
        new_ulid(), _turn(tx, task), order.count, type_settings.max_attempts, type_settings.expire_seconds, task["id"],
    )  # fmt: skip
    assert row is not None
    return row


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
        _admit_or_reject(tx, settings, row)
    return len(rows)


def _admit_or_reject(tx: Transaction, settings: Settings, row: Row) -> None:
    """Whatever is wrong with one row fails that row, never the round: everybody's admission stands behind it."""
    tx.execute("SAVEPOINT admission")
    try:
        order = check(tx, settings, row["user_openid"], row["type"], params_of(row))
        admit(tx, settings, row, order)
    except (Fault, peewee.IntegrityError) as error:
        tx.execute("ROLLBACK TO admission")
        if isinstance(error, Fault):
            reject(tx, row, error_code(error), str(error))
        else:
            reject(tx, row, "internal", f"The database refused the admission: {error}.")
    tx.execute("RELEASE admission")


def params_of(row: Row) -> Any:
    """The params of a row.  Raises BadParams for JSON that SQLite takes and Python does not (too deep, too long)."""
    try:
        return decoded(row["params"])
    except (ValueError, RecursionError):
        raise BadParams("params are nested too deep, or hold a number that is too long.") from None


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
    """From the end of an index: max() would read all of the user's open tasks."""
    row = tx.one(
        """SELECT (SELECT turn FROM fair_clock WHERE priority = ?) AS clock,
            (SELECT turn FROM task_queue WHERE user_openid = ? AND priority = ?
                AND status IN ('pending','processing','ai_processing') AND admitted_charge = charge AND id <> ?
                ORDER BY turn DESC LIMIT 1) AS highest""",
        task["priority"], task["user_openid"], task["priority"], task["id"],
    )  # fmt: skip
    assert row is not None
    return turn_of_new_task(row["clock"] or 0, row["highest"])


def expiry(tx: Transaction, seconds: str) -> str:
    """SQL for when a task admitted now expires.  seconds: SQL for EXPIRE_SECONDS."""
    # A task that was asked for a later time is not late before that time.
    soonest = f"max({tx.now}, coalesce(run_after, ''))"
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {soonest}, {seconds} || ' seconds')"
