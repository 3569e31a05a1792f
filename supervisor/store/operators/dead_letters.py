"""Dead letters: what was given up and will not be tried again by itself, with the reasons."""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from supervisor.database.interface.database import Row, Transaction
from supervisor.store.retention.ageing import types_of_finished_tasks
from supervisor.store.sql.rows import decoded
from supervisor.store.webhooks import deliveries
from supervisor.store.webhooks.webhook_attempts import without_query

DAYS = 7
MOST = 50
MOST_TYPES = 100  # a program that writes rows may invent types
MOST_REASON_CHARACTERS = 500

View = dict[str, Any]


def note_refused_order(
    tx: Transaction, message_id: str | None, user: object, type_: object, reason: str
) -> None:
    """Keep an order by Dramatiq that was refused.  user, type_: whatever the message held."""
    tx.execute(
        """INSERT INTO refused_order (message_id, user_openid, type, reason)
            VALUES (:message_id, :user, :type_, :reason)""",
        message_id=message_id, user=_shown(user), type_=_shown(type_), reason=_shown(reason, MOST_REASON_CHARACTERS),
    )  # fmt: skip


def _shown(value: object, most: int = 128) -> str | None:
    """So many printable characters of a value from outside."""
    if value is None:
        return None
    return "".join(each if each.isprintable() else "\ufffd" for each in str(value)[:most])


def read(tx: Transaction, settings: Settings) -> View:
    """{tasks, orders, webhooks}, each the newest first.

    tasks: those that failed in the last week, by type and error code, with the newest of each; a filter of
    `bulk_actions` finds them all.  orders: of Dramatiq producers.  webhooks: those that were given up.
    """
    orders = tx.all(
        f"""SELECT message_id, user_openid, type, reason, {tx.as_text("at")} AS at FROM refused_order
            ORDER BY id DESC LIMIT :most""",
        most=MOST,
    )
    return {
        "days": DAYS,
        "tasks": _failed(tx, settings),
        "orders": orders,
        "webhooks": [
            {**row, "url": without_query(row["url"])} for row in deliveries.page(tx, failed=True, limit=MOST)
        ],
    }


def ended_types(tx: Transaction, settings: Settings) -> list[str]:
    """The types of the settings, and others that tasks have ended with: rows by SQL may name any."""
    return sorted({*settings.tasks, *types_of_finished_tasks(tx, MOST_TYPES)})


def _failed(tx: Transaction, settings: Settings) -> list[Row]:
    found: list[Row] = []
    for type_ in ended_types(tx, settings):
        found += tx.all(
            f"""SELECT type, error ->> 'code' AS code, count(*) AS count,
                {tx.as_text("max(finished_at)")} AS last_at FROM task_queue
                WHERE finished_at IS NOT NULL AND type = :type_ AND finished_at > {tx.ago(":seconds")}
                    AND status = 'failed' GROUP BY type, error ->> 'code'""",
            type_=type_, seconds=DAYS * 86_400,
        )  # fmt: skip
    for each in found:
        last = tx.one(
            f"""SELECT id, error FROM task_queue WHERE finished_at IS NOT NULL AND type = :type
                AND finished_at = {tx.as_time(":last_at")} AND status = 'failed' AND error ->> 'code' = :code
                LIMIT 1""",
            type=each["type"], last_at=each["last_at"], code=each["code"],
        )  # fmt: skip
        each["last_task"] = last["id"] if last else None
        each["message"] = decoded(last["error"])["message"] if last else ""
    return sorted(found, key=lambda each: str(each["last_at"]), reverse=True)


def prune(tx: Transaction, most: int) -> int:
    """Delete refused orders of more than a week ago; how many.  Ids follow time."""
    return tx.run(
        f"""DELETE FROM refused_order WHERE id IN (SELECT id FROM refused_order ORDER BY id LIMIT :most)
            AND at < {tx.ago(":seconds")}""",
        most=most, seconds=DAYS * 86_400,
    )  # fmt: skip
