"""What was noticed of users: orders that were refused, streams and requests that were too many.

A row counts how often it happened since the first time; after a pause of EPISODE_SECONDS it begins anew.  Webs gather
and write them every few seconds, so a storm costs one statement.  The user '' stands for everybody.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from supervisor.database.interface.database import Row, Transaction

EPISODE_SECONDS = 600.0
FORGET_SECONDS = 86_400.0
EVERYBODY = ""


class Notice(enum.StrEnum):
    """What was noticed."""

    NO_CREDITS = "no_credits"  # an order was refused, 402
    OPEN_TASKS = "open_tasks"  # the user's own limit of open tasks, 429
    QUEUE_FULL = "queue_full"  # everybody's, 503
    STREAMS = "streams"  # more streams than STREAMS_PER_USER, 429
    REQUESTS = "requests"  # more requests a minute than a quota allows, 429
    FEED_OPENED = "feed_opened"  # opened the feed more often in a minute than any client has to


def add(tx: Transaction, counted: Mapping[tuple[Notice, str], int]) -> None:
    """Count what has happened since.  counted: {(what, user): times}."""
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
    """What goes on: kind, and of the user it happened to most often their name, `times`, `first_at`; `users`: how many
    it happens to, `ago_seconds`: since it did last."""
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
    """{what: how many users it happened to within so many seconds}."""
    rows = tx.all(
        f"SELECT kind, count(*) AS n FROM user_notice WHERE last_at > {tx.ago(':within_seconds')} GROUP BY kind",
        within_seconds=within_seconds,
    )
    return {row["kind"]: int(row["n"]) for row in rows}


def forget_old(tx: Transaction) -> int:
    """Drop what has not happened for a day."""
    return tx.run(
        f"DELETE FROM user_notice WHERE last_at < {tx.ago(':forget_seconds')}", forget_seconds=FORGET_SECONDS
    )
