"""The minute sweep's record: one run a minute, with any number of schedulers; a run that died is taken over."""

from __future__ import annotations

from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.schema.statements import EXCLUDED, NOW, Built, OfDialect, ago, param
from supervisor.schema.tables import SweepRun
from supervisor.store.sql.rows import encoded

TAKEN_OVER_SECONDS = 55


_MINUTE = OfDialect(lambda dialect: f"substr({dialect.as_text.format(time=dialect.now)}, 1, 16)")
_BEGIN = Built(
    SweepRun.insert(minute=_MINUTE, started_at=NOW)
    .on_conflict(
        conflict_target=[SweepRun.minute],
        update={SweepRun.started_at: EXCLUDED.started_at},
        where=SweepRun.finished_at.is_null() & (SweepRun.started_at <= ago("seconds")),
    )
    .returning(SweepRun.minute)
)
_END = Built(
    SweepRun.update(finished_at=NOW, counts=param("counts")).where(SweepRun.minute == param("minute"))
)
_RECORD = Built(
    SweepRun.insert(
        minute=_MINUTE, started_at=NOW, finished_at=NOW, counts=param("counts")
    ).on_conflict_ignore()
)
_LAST = Built(
    SweepRun.select().where(SweepRun.finished_at.is_null(False)).order_by(SweepRun.minute.desc()).limit(1)
)
_FORGET = Built(SweepRun.delete().where(SweepRun.started_at < ago("seconds")))


def begin(tx: Transaction) -> str | None:
    """Take this minute's run; its minute, or None if it is taken already."""
    minute: str | None = tx.value(_BEGIN, seconds=TAKEN_OVER_SECONDS)
    return minute


def end(tx: Transaction, minute: str, counts: dict[str, Any]) -> None:
    """Record the end of the run; counts: its results."""
    tx.execute(_END, counts=encoded(counts), minute=minute)


def record_by_hand(tx: Transaction, counts: dict[str, Any]) -> None:
    """Record a finished run outside the schedule as this minute's, unless that is taken."""
    tx.execute(_RECORD, counts=encoded(counts))


def last(tx: Transaction) -> Row | None:
    """The newest finished run."""
    return tx.one(_LAST)


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
    return tx.run(_FORGET, seconds=older_than_seconds)
