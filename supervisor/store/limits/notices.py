"""Notices about users: refused orders, too many streams, too many requests.

A row counts the events since the first one; after EPISODE_SECONDS without an event it begins anew.  Web processes
collect notices and write them every few seconds, so a flood costs one statement.  The user '' stands for all users.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from supervisor.database.interface.database import Row, Transaction

EPISODE_SECONDS = 600.0
FORGET_SECONDS = 86_400.0
EVERYBODY = ""


class Notice(enum.StrEnum):
    """The kinds of notices."""

    BLOCKED = "blocked"  # whatever a blocked user asked for, 403
    NO_CREDITS = "no_credits"  # an order was refused, 402
    OPEN_TASKS = "open_tasks"  # the user's own limit of open tasks, 429
    QUEUE_FULL = "queue_full"  # the limit of all waiting tasks, 503
    STREAMS = "streams"  # more streams than STREAMS_PER_USER, 429
    REQUESTS = "requests"  # more requests a minute than a quota allows, 429
    FEED_OPENED = "feed_opened"  # opened the feed more often in a minute than any client needs to


def add(tx: Transaction, counted: Mapping[tuple[Notice, str], int]) -> None:
    """Add new events.  counted: {(what, user): times}."""
    for (kind, user), times in sorted(counted.items()):
        is_new = f"user_notice.last_at < {tx.ago(':episode_seconds')}"
        tx.execute(
            f"""INSERT INTO user_notice (kind, user_openid, times, first_at, last_at)
                VALUES (:kind, :user, :times, {tx.now}, {tx.now}) ON CONFLICT (kind, user_openid) DO UPDATE SET
                times = CASE WHEN {is_new} THEN excluded.times ELSE user_notice.times + excluded.times END,
                first_at = CASE WHEN {is_new} THEN excluded.first_at ELSE user_notice.first_at END,
                last_at = excluded.last_at""",
            kind=kind.value, user=user, times=times, episode_seconds=EPISODE_SECONDS,
        )  # fmt: skip


def recent(tx: Transaction) -> list[Row]:
    """The notices of now, one for each kind, with the most affected user: name, `times`, `first_at`.  `users`: how many
    users are affected; `ago_seconds`: since the last event."""
    rows = tx.all(
        f"""SELECT kind, user_openid, times, first_at, {tx.seconds_since("last_at")} AS ago_seconds
            FROM user_notice WHERE last_at > {tx.ago(":episode_seconds")} ORDER BY kind, times DESC, user_openid""",
        episode_seconds=EPISODE_SECONDS,
    )
    found: dict[str, Row] = {}
    for row in rows:
        known = found.setdefault(row["kind"], {**row, "users": 0})
        known["users"] += 1
        known["ago_seconds"] = min(known["ago_seconds"], row["ago_seconds"])
    return list(found.values())


def users_of_late(tx: Transaction, within_seconds: float) -> dict[str, int]:
    """{what: the number of users affected within so many seconds}."""
    rows = tx.all(
        f"SELECT kind, count(*) AS n FROM user_notice WHERE last_at > {tx.ago(':within_seconds')} GROUP BY kind",
        within_seconds=within_seconds,
    )
    return {row["kind"]: int(row["n"]) for row in rows}


def forget_old(tx: Transaction) -> int:
    """Delete notices without an event for a day."""
    return tx.run(
        f"DELETE FROM user_notice WHERE last_at < {tx.ago(':forget_seconds')}", forget_seconds=FORGET_SECONDS
    )
