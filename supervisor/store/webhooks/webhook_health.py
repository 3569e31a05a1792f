"""The state of all webhooks: waiting deliveries, recent ends, and addresses in trouble.

Each query reads an index over open or newest rows, with a limit.
"""

from __future__ import annotations

from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.schema.tables import GIVEN_UP, OWED
from supervisor.store.webhooks.webhook_attempts import without_query

LATELY_SECONDS = 3600.0
MOST_LOOKED_AT = 1000
MOST_SHOWN = 50

View = dict[str, Any]

_COLUMNS = "id, task_id, user_openid, url, state, attempts, due_at, last_status, last_error, created_at"


def read(tx: Transaction) -> View:
    """`open` ({state: deliveries}), `ended` (the same for the last hour's newest thousand), `oldest_seconds` (age of
    the oldest open one), `addresses`.
    """
    return {
        "open": count_open(tx),
        "ended": _ended(tx),
        "oldest_seconds": round(oldest_seconds(tx), 1),
        "addresses": troubled_addresses(tx),
    }


def count_open(tx: Transaction) -> dict[str, int]:
    """Open deliveries, by state."""
    rows = tx.all(
        f"""SELECT state, count(*) AS n FROM webhook_delivery WHERE {OWED}
            GROUP BY state"""
    )
    return {"waiting": 0, "sending": 0} | {row["state"]: int(row["n"]) for row in rows}


def oldest_seconds(tx: Transaction) -> float:
    """The age of the oldest open delivery; 0 if there is none."""
    found = tx.value(
        f"""SELECT {tx.seconds_since("created_at")} FROM webhook_delivery
            WHERE {OWED} ORDER BY created_at LIMIT 1"""
    )
    return max(0.0, float(found or 0.0))


def _ended(tx: Transaction) -> dict[str, int]:
    rows = tx.all(
        f"""SELECT state, count(*) AS n FROM
            (SELECT state FROM webhook_delivery WHERE ended_at IS NOT NULL AND ended_at > {tx.ago(":lately_seconds")}
             ORDER BY ended_at DESC LIMIT :most_looked_at) AS newest GROUP BY state""",
        lately_seconds=LATELY_SECONDS, most_looked_at=MOST_LOOKED_AT,
    )  # fmt: skip
    return {"delivered": 0, "failed": 0, "gone": 0} | {row["state"]: int(row["n"]) for row in rows}


def troubled_addresses(tx: Transaction) -> list[View]:
    """Each user's address that answered 410 or failed at an attempt; the most deliveries first.

    `gone_since` (a time, or None), `owed` and `given_up` (deliveries; the latter of the last day), and from the newest
    delivery `webhook_id`, `task_id`, `last_status`, `last_error`, `next_at`.  `url` is without its query.
    """
    found: dict[tuple[str, str], View] = {}
    for row in [*_failing(tx), *_given_up(tx)]:
        _add(found, row)
    for row in tx.all(
        "SELECT user_openid, url, since FROM webhook_gone ORDER BY since DESC LIMIT :most_shown",
        most_shown=MOST_SHOWN,
    ):
        if (key := (row["user_openid"], row["url"])) in found:
            found[key]["gone_since"] = row["since"]
    return sorted(found.values(), key=lambda each: -each["owed"] - each["given_up"])[:MOST_SHOWN]


def _failing(tx: Transaction) -> list[Row]:
    return tx.all(
        f"""SELECT {_COLUMNS} FROM
            (SELECT {_COLUMNS} FROM webhook_delivery WHERE {OWED}
             ORDER BY created_at LIMIT :most_looked_at) AS oldest
            WHERE last_error IS NOT NULL ORDER BY created_at DESC""",
        most_looked_at=MOST_LOOKED_AT,
    )


def _given_up(tx: Transaction) -> list[Row]:
    return tx.all(
        f"""SELECT {_COLUMNS} FROM webhook_delivery WHERE {GIVEN_UP}
            AND created_at > {tx.ago(":day")} ORDER BY created_at DESC LIMIT :most_looked_at""",
        day=86_400.0, most_looked_at=MOST_LOOKED_AT,
    )  # fmt: skip


def _add(found: dict[tuple[str, str], View], row: Row) -> None:
    is_open = row["state"] in ("waiting", "sending")
    known = found.setdefault(
        (row["user_openid"], row["url"]),
        {
            "user_openid": row["user_openid"],
            "url": without_query(row["url"]),
            "gone_since": None,
            "owed": 0,
            "given_up": 0,
            "webhook_id": row["id"],
            "task_id": row["task_id"],
            "last_status": row["last_status"],
            "last_error": row["last_error"],
            "next_at": row["due_at"] if is_open else None,
        },
    )
    known["owed" if is_open else "given_up"] += 1
