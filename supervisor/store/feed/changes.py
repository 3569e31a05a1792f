"""The change log, as the feed reads it: a user's seq has no gap and follows the order of commits."""

from __future__ import annotations

import dataclasses
from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.store.sql.rows import decoded, encoded, work_doc

SNAPSHOT_WORKS = 100
MOST_FUTURE_SECONDS = 60  # a change that lies further in the future was written before the clock was set back


@dataclasses.dataclass(frozen=True)
class Change:
    """One change of one work.  doc: as in docs/http-reference.md with file keys; created_at: the writer's time."""

    user: str
    epoch: str
    seq: int
    data_type: str
    queue_type: str
    doc_id: str
    doc: dict[str, Any]
    updated_fields: dict[str, Any] | None
    created_at: str
    log_id: int


@dataclasses.dataclass(frozen=True)
class Lost:
    """A user's changes up to seq should be read, but none of them is kept any more."""

    user: str
    seq: int


@dataclasses.dataclass(frozen=True)
class FeedState:
    """The position of a user's feed.  oldest: the oldest seq still kept; None if none is kept."""

    epoch: str
    seq: int
    oldest: int | None


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The user's newest works and the seq they belong to, read at one moment."""

    epoch: str
    seq: int
    works: list[dict[str, Any]]


_CHANGE = "SELECT work_change.*, account.epoch FROM work_change JOIN account USING (user_openid)"


def feed_state(tx: Transaction, user: str) -> FeedState | None:
    """One statement, so one moment; None for an unknown user."""
    row = tx.one(
        """SELECT epoch, seq, (SELECT min(seq) FROM work_change WHERE work_change.user_openid = account.user_openid)
            AS oldest FROM account WHERE user_openid = :user""",
        user=user,
    )
    return None if row is None else FeedState(row["epoch"], row["seq"], row["oldest"])


def snapshot(tx: Transaction, user: str, limit: int = SNAPSHOT_WORKS) -> Snapshot:
    """The newest works, newest first, and the seq of that moment; the user's account must exist."""
    account = tx.one("SELECT epoch, seq FROM account WHERE user_openid = :user", user=user)
    assert account is not None
    rows = tx.all(
        "SELECT * FROM works WHERE user_openid = :user ORDER BY created_at DESC, id DESC LIMIT :limit",
        user=user,
        limit=limit,
    )
    return Snapshot(account["epoch"], account["seq"], [work_doc(row) for row in rows])


def after(tx: Transaction, user: str, seq: int, limit: int = 1000) -> list[Change]:
    """The user's changes above seq, in order."""
    rows = tx.all(
        f"{_CHANGE} WHERE user_openid = :user AND work_change.seq > :seq ORDER BY work_change.seq LIMIT :limit",
        user=user, seq=seq, limit=limit,
    )  # fmt: skip
    return [_change(row) for row in rows]


def after_each(tx: Transaction, places: dict[str, int | None], limit: int = 1000) -> list[Change | Lost]:
    """Several users' changes above the seq given for each, in order for each user.  PostgreSQL only.

    None: the user's newest change only.  A user without kept changes has one `Lost` instead.
    """
    rows = tx.all(
        """SELECT newer.*, account.epoch, account.user_openid, account.seq AS newest
            FROM jsonb_each_text(CAST(:places AS jsonb)) AS place (who, seq)
            JOIN account ON account.user_openid = place.who
            LEFT JOIN LATERAL (SELECT * FROM work_change WHERE work_change.user_openid = account.user_openid
                AND work_change.seq > coalesce(CAST(place.seq AS bigint), account.seq - 1)
                ORDER BY work_change.seq LIMIT :limit) AS newer ON true
            WHERE place.seq IS NULL OR CAST(place.seq AS bigint) < account.seq
            ORDER BY account.user_openid, newer.seq LIMIT :limit""",
        places=encoded(places), limit=limit,
    )  # fmt: skip
    return [Lost(row["user_openid"], row["newest"]) if row["seq"] is None else _change(row) for row in rows]


def tail(tx: Transaction, log_id: int, limit: int = 1000) -> list[Change]:
    """The changes of all users after a place in the log.  SQLite only: there, the log's own order is the commit
    order."""
    rows = tx.all(
        f"{_CHANGE} WHERE log_id > :log_id ORDER BY log_id LIMIT :limit", log_id=log_id, limit=limit
    )
    return [_change(row) for row in rows]


def end_of_log(tx: Transaction) -> int:
    """The newest place in the log."""
    return int(tx.value("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'work_change'") or 0)


def prune(tx: Transaction, older_than_seconds: float, most: int) -> int:
    """Drop a user's changes up to the newest that is older than the feed's retention; how many went.

    By seq, as they are read: a user's kept changes have no gap and end with the newest.  Their times need not follow
    seq, since a clock may step, and since a trigger may read the clock before it waits for the account's lock.
    """
    tx.execute(  # otherwise it would be kept for as long as the clock was ahead
        f"""UPDATE work_change SET created_at = {tx.now} WHERE log_id IN
            (SELECT log_id FROM work_change WHERE created_at > {tx.in_seconds(":most_future_seconds")}
            ORDER BY created_at DESC LIMIT :most)""",
        most_future_seconds=MOST_FUTURE_SECONDS, most=most,
    )  # fmt: skip
    return tx.run(
        f"""DELETE FROM work_change WHERE log_id IN
            (SELECT work_change.log_id FROM
                (SELECT user_openid, max(seq) AS seq FROM
                    (SELECT user_openid, seq FROM work_change WHERE created_at < {tx.ago(":older_than_seconds")}
                        ORDER BY created_at LIMIT :most) AS oldest
                    GROUP BY user_openid) AS aged
                JOIN work_change ON work_change.user_openid = aged.user_openid AND work_change.seq <= aged.seq
                ORDER BY work_change.user_openid, work_change.seq LIMIT :most)""",
        older_than_seconds=older_than_seconds, most=most,
    )  # fmt: skip


def _change(row: Row) -> Change:
    return Change(
        user=row["user_openid"],
        epoch=row["epoch"],
        seq=row["seq"],
        data_type=row["data_type"],
        queue_type=row["queue_type"],
        doc_id=row["doc_id"],
        doc=decoded(row["doc"]),
        updated_fields=None if row["updated_fields"] is None else decoded(row["updated_fields"]),
        created_at=row["created_at"],
        log_id=row["log_id"],
    )
