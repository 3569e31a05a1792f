"""One dispatcher works, any number stand by.

The row holds the working dispatcher, its term, a beat that rises with every tick, and how much time may pass until the
next tick: little, or more while the dispatcher holds the lock that ends with its process
(`supervisor.database.interface.leader_lock`).  A standby that has seen the same beat for long enough by its own clock
(`supervisor.health.succession`) takes over by compare-and-set on (term, beat).
Every round compares its term, so a dispatcher that was frozen meanwhile finds that it was replaced.

The row also says since when we are *well*: since then, by its own monotonic clock, the working dispatcher has ticked
without a gap, a failure or a stepped clock.  Every verdict that depends on elapsed time waits for this.  The value
counts only while the last tick is recent: after a full stop, a sweep that runs before the dispatcher finds that we are
not well.
"""

from __future__ import annotations

import dataclasses

from supervisor.database.interface.database import Pending, Transaction

GAP_SECONDS = 10.0  # a longer time between two ticks is a gap; an idle dispatcher ticks every SLOW_SECONDS
STEP_SECONDS = 5.0  # a larger difference between the database's and a monotonic clock is a step
FAST_SECONDS = 0.25  # between the ticks of a dispatcher that has something to do, or has no lock
SLOW_SECONDS = 5.0  # at most, between the ticks of the others, whatever HEARTBEAT_SECONDS says
# bounds of `well_since`
EVER, NEVER = "0001-01-01T00:00:00.000Z", "9999-12-31T00:00:00.000Z"
ANEW_SECONDS = 0.1  # shorter than from one tick to the next
YOUNG_SECONDS = 10.0  # age of a tick; the next is due after SLOW_SECONDS, and a busy machine is late


@dataclasses.dataclass(frozen=True)
class Leadership:
    """The content of the row.  beat_seconds: until the next tick at the latest."""

    holder: str | None
    term: int
    beat: int
    beat_seconds: float = FAST_SECONDS


@dataclasses.dataclass(frozen=True)
class Tick:
    """is_anew: the time in which we are well begins at this tick."""

    is_anew: bool


def read(tx: Transaction) -> Leadership:
    """The working dispatcher."""
    row = tx.one("SELECT holder, term, beat, beat_seconds FROM dispatcher WHERE id = 1")
    assert row is not None
    return Leadership(**row)


def is_held(tx: Transaction, held: Leadership) -> Pending[bool]:
    """Whether this dispatcher is still the working one; until the commit, no other one can take over."""
    asked = tx.ask(f"SELECT term FROM dispatcher WHERE id = 1{tx.for_update}")
    return Pending(lambda: bool(asked.value() == held.term))


def take_over(tx: Transaction, seen: Leadership, holder: str) -> Leadership | None:
    """Become the working dispatcher, unless the other one has ticked since; then None."""
    row = tx.one(
        """UPDATE dispatcher SET holder = :holder, term = term + 1, paced_term = term + 1, beat = beat + 1,
            beat_seconds = :beat_seconds
            WHERE id = 1 AND term = :term AND beat = :beat RETURNING holder, term, beat, beat_seconds""",
        holder=holder, beat_seconds=FAST_SECONDS, term=seen.term, beat=seen.beat,
    )  # fmt: skip
    return None if row is None else Leadership(**row)


def renew(
    tx: Transaction,
    held: Leadership,
    passed_seconds: float | None = None,
    beat_seconds: float = FAST_SECONDS,
) -> Tick | None:
    """Record a tick of the working dispatcher; None if another one has taken over.

    passed_seconds: since its last tick, by its monotonic clock; None when it has begun, stood still or failed since.
    beat_seconds: until its next tick at the latest.
    """
    is_gap = passed_seconds is None or passed_seconds > GAP_SECONDS
    drift = f"abs({tx.seconds_between('ticked_at', tx.moment)} - CAST(:passed_seconds AS DOUBLE PRECISION))"
    well = tx.value(
        f"""UPDATE dispatcher SET beat = beat + 1, beat_seconds = :beat_seconds, ticked_at = {tx.moment},
            well_since = CASE WHEN {drift} <= :step_seconds THEN coalesce(well_since, {tx.moment}) ELSE {tx.moment} END
            WHERE id = 1 AND term = :term RETURNING {tx.seconds_between("well_since", "ticked_at")}""",
        beat_seconds=beat_seconds, passed_seconds=None if is_gap else passed_seconds, step_seconds=STEP_SECONDS,
        term=held.term,
    )  # fmt: skip
    return None if well is None else Tick(float(well) < ANEW_SECONDS)


def well_since(tx: Transaction) -> str:
    """Since when we have been well without a break; NEVER if we are not."""
    since: str | None = tx.value(
        f"""SELECT well_since FROM dispatcher
            WHERE id = 1 AND abs({tx.seconds_between("ticked_at", tx.moment)}) <= :young_seconds""",
        young_seconds=YOUNG_SECONDS,
    )
    return since or NEVER


def resign(tx: Transaction, held: Leadership) -> None:
    """Stop in good order, so that the next dispatcher need not wait."""
    tx.execute(
        "UPDATE dispatcher SET holder = NULL, term = term + 1, beat = beat + 1 WHERE id = 1 AND term = :term",
        term=held.term,
    )


def vacate(tx: Transaction, holder: str) -> bool:
    """This dispatcher's process has ended; if it was the working one, the next one need not wait."""
    return bool(
        tx.run(
            "UPDATE dispatcher SET holder = NULL, term = term + 1, beat = beat + 1 WHERE id = 1 AND holder = :holder",
            holder=holder,
        )
    )
