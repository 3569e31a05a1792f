"""One user as operators see them: block, credits, open tasks, limits and their use, refusals of the last day."""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from supervisor.database.interface.database import Row, Transaction
from supervisor.schema.tables import OPEN
from supervisor.security.token_proof import USER
from supervisor.store.ledger import credits
from supervisor.store.limits import blocks
from supervisor.store.sql.rows import decoded

MOST_OPEN = 50
MOST_ENDED = 20
MOST_ENTRIES = 50
DAY_SECONDS = 86_400.0

View = dict[str, Any]

_TASK = "id AS task_id, type, status, stage, progress, attempt, error, created_at, finished_at"


def read(tx: Transaction, settings: Settings, user: str) -> View | None:
    """Everything from one snapshot; None for a user who was never seen."""
    account = tx.one(
        f"SELECT {tx.as_text('created_at')} AS created_at FROM account WHERE user_openid = :user", user=user
    )
    if account is None:
        return None
    running = tx.value(
        f"SELECT count(*) FROM task_queue WHERE user_openid = :user AND {OPEN} AND status <> 'pending'",
        user=user,
    )
    opened = tx.value(f"SELECT count(*) FROM task_queue WHERE user_openid = :user AND {OPEN}", user=user)
    limits = settings.limits
    return {
        "user": user,
        "since": account["created_at"],
        "block": blocks.of_user(tx, user),
        "tokens_from": tx.value(
            f"SELECT not_before FROM token_revocation WHERE kind = '{USER}' AND name = :user", user=user
        ),
        **credits.statement(tx, user, MOST_ENTRIES),
        "spent_of_day": _spent(tx, user),
        "open": tasks(tx, f"{OPEN} ORDER BY created_at DESC", user, MOST_OPEN),
        "ended": tasks(tx, "finished_at IS NOT NULL ORDER BY created_at DESC", user, MOST_ENDED),
        "limits": [
            {"name": "open_tasks", "used": int(opened), "most": limits.open_tasks_per_user},
            {"name": "running_tasks", "used": int(running), "most": limits.running_tasks_per_user},
        ],
        "refusals": _refusals(tx, user),
    }


def tasks(tx: Transaction, which: str, user: str, most: int) -> list[View]:
    """Some of the user's tasks.  which: SQL, a condition and an order."""
    rows = tx.all(
        f"SELECT {_TASK} FROM task_queue WHERE user_openid = :user AND {which} LIMIT :most",
        user=user, most=most,
    )  # fmt: skip
    return [{**row, "error": decoded(row["error"])} for row in rows]


def _spent(tx: Transaction, user: str) -> int:
    """Debits less refunds of the last day."""
    return int(
        tx.value(
            f"""SELECT coalesce(-sum(amount), 0) FROM credit_entry WHERE user_openid = :user
                AND kind IN ('debit','refund') AND created_at > {tx.ago(":day")}""",
            user=user, day=DAY_SECONDS,
        )
    )  # fmt: skip


def _refusals(tx: Transaction, user: str) -> list[View]:
    """What was refused to the user in the last day, the latest first: requests, by the notices of web processes, which
    count an episode; and tasks that were never begun, by the code of their error."""
    noticed = tx.all(
        f"""SELECT kind AS reason, times, {tx.as_text("first_at")} AS first_at, {tx.as_text("last_at")} AS last_at
            FROM user_notice WHERE user_openid = :user AND last_at > {tx.ago(":day")}""",
        user=user, day=DAY_SECONDS,
    )  # fmt: skip
    failed = tx.all(
        f"""SELECT error, {tx.as_text("finished_at")} AS at FROM task_queue
            WHERE user_openid = :user AND created_at > {tx.ago(":day")} AND status = 'failed' AND attempt = 0
            ORDER BY finished_at""",
        user=user, day=DAY_SECONDS,
    )  # fmt: skip
    found = [{**row, "what": "requests", "message": ""} for row in noticed]
    return sorted([*found, *_by_code(failed)], key=lambda each: each["last_at"], reverse=True)


def _by_code(rows: list[Row]) -> list[View]:
    by_code: dict[str, View] = {}
    for row in rows:
        error = decoded(row["error"])
        known = by_code.setdefault(
            error["code"], {"what": "tasks", "reason": error["code"], "times": 0, "first_at": row["at"]}
        )
        known["times"] += 1
        known |= {"message": error["message"], "last_at": row["at"]}
    return list(by_code.values())
