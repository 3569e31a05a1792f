"""The ledger: a balance is a sum, a charge is debited once, and refunded for the missing pictures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.histories.model import Model, Task


def check(model: Model) -> None:
    """All of it."""
    world = model.world
    for user, balance, total in world.rows(
        """SELECT account.user_openid, balance, coalesce(sum(amount), 0) FROM account
            LEFT JOIN credit_entry ON credit_entry.user_openid = account.user_openid
            GROUP BY account.user_openid, balance"""
    ):
        if balance != total:
            model.broken(f"the balance of {user} is {balance}, its ledger says {total}")
    grants = world.rows(
        "SELECT user_openid, count(*) FROM credit_entry WHERE kind = 'grant' GROUP BY user_openid"
    )
    for user, number in grants:
        if number != 1:
            model.broken(f"{user} had {number} grants")
    booked: dict[tuple[str, int], dict[str, list[int]]] = {}
    for task_id, charge, kind, amount in world.rows(
        "SELECT task_id, charge, kind, amount FROM credit_entry WHERE kind <> 'grant'"
    ):
        booked.setdefault((task_id, charge), {}).setdefault(kind, []).append(amount)
    present = {row[0] for row in world.rows("SELECT id FROM task_queue")}
    # What steps kept goes with the work; its ledger was checked before.
    forgotten = {
        row[0]
        for row in world.rows(
            """SELECT id FROM task_queue WHERE work_id IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM works WHERE works.id = task_queue.work_id)"""
        )
    }
    staged = {name for name, type_ in world.settings.tasks.items() if type_.steps}
    for task in model.tasks.values():
        if task.id in present:
            for charge in range(1, task.charge + 1):
                entries = booked.pop((task.id, charge), {})
                if task.id not in forgotten or task.type not in staged:
                    _check_charge(model, task, charge, entries)
    for (task_id, charge), entries in booked.items():
        if task_id in present or task_id not in model.tasks:
            model.broken(
                f"charge {charge} of task {task_id} is booked {entries}, and there is no such charge"
            )


def _check_charge(model: Model, task: Task, charge: int, entries: dict[str, list[int]]) -> None:
    debits, refunds = entries.get("debit", []), entries.get("refund", [])
    said = f"charge {charge} of task {task.id} ({task.status}, charge {task.charge}): {entries}"
    if len(debits) > 1 or len(refunds) > 1:
        model.broken(f"more than one debit or refund, {said}")
    paid, back = -sum(debits), sum(refunds)
    price = (
        model.world.settings.tasks[task.type].cost_credits if task.type in model.world.settings.tasks else 0
    )
    kept = min(paid, _kept_by_steps(model, task.id, charge, resumed=0))
    if charge == task.charge:
        is_admitted = task.admitted_charge == charge
        spared = min(_kept_by_steps(model, task.id, charge, resumed=1), _paid_before(model, task.id, charge))
        if paid != (max(0, price * task.picture_count - spared) if is_admitted else 0):
            model.broken(f"the debit is wrong, {said}, spared {spared}")
        wanted = {"failed": paid - kept, "cancelled": paid - kept}.get(task.status, 0)
        if task.status == "completed" and task.last_step:
            shown = len(json.loads(task.images) if isinstance(task.images, str) else task.images)
            if shown + task.missing != task.picture_count:
                model.broken(f"{shown} pictures are there and {task.missing} missing, {said}")
        if task.status == "completed":
            wanted = paid * task.missing // task.picture_count
        if back != wanted:
            model.broken(f"the refund is wrong, {said}, missing {task.missing}, kept {kept}")
    elif back != paid - kept:
        model.broken(f"an earlier charge was not refunded, {said}, kept {kept}")


def _kept_by_steps(model: Model, task_id: str, charge: int, *, resumed: int) -> int:
    """What finished steps of a charge keep: those made in it, or those taken over from earlier ones."""
    rows = model.world.rows(
        "SELECT kept_credits FROM task_step WHERE task_id = ? AND charge = ? AND resumed = ?",
        task_id, charge, resumed,
    )  # fmt: skip
    return sum(kept for (kept,) in rows)


def _paid_before(model: Model, task_id: str, charge: int) -> int:
    rows = model.world.rows(
        "SELECT amount FROM credit_entry WHERE task_id = ? AND charge < ?", task_id, charge
    )
    return -sum(amount for (amount,) in rows)
