"""The ledger: a balance is a sum, a charge is debited once, and refunded for the missing pictures."""

from __future__ import annotations

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
    for task in model.tasks.values():
        if task.id in present:
            for charge in range(1, task.charge + 1):
                _check_charge(model, task, charge, booked.pop((task.id, charge), {}))
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
    if charge == task.charge:
        is_admitted = task.admitted_charge == charge
        if paid != (price * task.picture_count if is_admitted else 0):
            model.broken(f"the debit is wrong, {said}")
        wanted = {"failed": paid, "cancelled": paid}.get(task.status, 0)
        if task.status == "completed":
            wanted = price * task.missing
        if back != wanted:
            model.broken(f"the refund is wrong, {said}, missing {task.missing}")
    elif back != paid:
        model.broken(f"an earlier charge was not refunded, {said}")
