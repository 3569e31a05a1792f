"""The minute sweep's record: one run a minute, with any number of schedulers; a run that died is taken over."""

from __future__ import annotations

from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.store.sql.rows import encoded

TAKEN_OVER_SECONDS = 55


def begin(tx: Transaction) -> str | None:
    """Take this minute's run; its minute, or None if it is taken already."""
    minute: str | None = tx.value(
        f"""INSERT INTO sweep_run (minute, started_at) VALUES ({_minute(tx)}, {tx.now})
            ON CONFLICT (minute) DO UPDATE SET started_at = excluded.started_at
                WHERE sweep_run.finished_at IS NULL AND sweep_run.started_at <= {tx.ago(":taken_over_seconds")}
            RETURNING minute""",
        taken_over_seconds=TAKEN_OVER_SECONDS,
    )
    return minute


def end(tx: Transaction, minute: str, counts: dict[str, Any]) -> None:
    """Record the end of the run; counts: its results."""
    tx.execute(
        f"UPDATE sweep_run SET finished_at = {tx.now}, counts = :counts WHERE minute = :minute",
        counts=encoded(counts),
        minute=minute,
    )


def record_by_hand(tx: Transaction, counts: dict[str, Any]) -> None:
    """Record a finished run outside the schedule as this minute's, unless that is taken."""
    tx.execute(
        f"""INSERT INTO sweep_run (minute, started_at, finished_at, counts)
            VALUES ({_minute(tx)}, {tx.now}, {tx.now}, :counts) ON CONFLICT (minute) DO NOTHING""",
        counts=encoded(counts),
    )


def last(tx: Transaction) -> Row | None:
    """The newest finished run."""
    return tx.one("SELECT * FROM sweep_run WHERE finished_at IS NOT NULL ORDER BY minute DESC LIMIT 1")


def seconds_since_last(tx: Transaction) -> float:
    """Seconds since the end of the newest finished run, which exists."""
    return float(
        tx.value(
            f"""SELECT {tx.seconds_since("finished_at")} FROM sweep_run
                WHERE finished_at IS NOT NULL ORDER BY minute DESC LIMIT 1"""
        )
    )


def forget_old(tx: Transaction, older_than_seconds: float) -> int:
    """Delete records of old runs."""
    return tx.run(
        f"DELETE FROM sweep_run WHERE started_at < {tx.ago(':older_than_seconds')}",
        older_than_seconds=older_than_seconds,
    )


def _minute(tx: Transaction) -> str:
    return f"substr({tx.as_text(tx.now)}, 1, 16)"
