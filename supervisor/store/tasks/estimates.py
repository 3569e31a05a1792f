"""The price and start time of a possible order, without storing anything."""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from supervisor.core.fair_order import turn_of_new_task
from supervisor.core.queue_position import place_key
from supervisor.core.task_params import Submission
from supervisor.database.interface.database import Transaction
from supervisor.schema.tables import OPEN
from supervisor.store.ledger import credits
from supervisor.store.sql.rows import encoded
from supervisor.store.tasks import admission

_LAST = "~"  # after every id of the same millisecond


def estimate(tx: Transaction, settings: Settings, user: str, order: Submission) -> dict[str, Any]:
    """{credits, balance, view}; view: the input of `WaitingOrder.placed` for a task that joined now.

    Raises BadParams for an upload of another user or of another kind.
    """
    ids = sorted(set(order.checked.image_ids))
    found = tx.all(
        f"""SELECT id, media_type FROM image
            WHERE user_openid = :user AND expired_at IS NULL AND {tx.is_one_of("id", ":ids")}""",
        user=user, ids=encoded(ids),
    )  # fmt: skip
    uploads = {(user, row["id"]): row["media_type"] for row in found}
    admission.check_uploads(uploads, user, order.checked)
    now = tx.value(f"SELECT {tx.as_text(tx.now)}")
    clock = tx.value("SELECT turn FROM fair_clock WHERE priority = :priority", priority=order.priority) or 0
    highest = tx.value(
        f"""SELECT max(turn) FROM task_queue WHERE user_openid = :user AND priority = :priority
            AND {OPEN} AND admitted_charge = charge""",
        user=user, priority=order.priority,
    )  # fmt: skip
    is_in_line = order.run_after is None or order.run_after <= now
    place = place_key(order.priority, turn_of_new_task(clock, highest), now, _LAST)
    return {
        "credits": admission.cost_of(settings, order.checked).credits,
        "balance": credits.balance_of_anybody(tx, user),
        "view": {
            "type": order.type,
            "status": "pending",
            "place": place if is_in_line else None,
            "is_in_line": is_in_line,
            "running_for_seconds": None,
            "spent_seconds": 0.0,
            "due_in_seconds": None,
        },
    }
