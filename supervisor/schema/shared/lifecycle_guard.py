"""The database's own guard, generated from the lifecycle table.

An UPDATE of `task_queue` passes if at least one arrow of the table explains it: the pair of statuses and the change of
every counted column.  The text is a SQL condition over OLD and NEW that is true for a legal step.  It also requires the
columns of each step (a claim has a worker, a hand-off has none).
"""

from __future__ import annotations

from supervisor.core.lifecycle import COUNTED, OPEN, TRANSITIONS, Event, Rule, Transition

IMMUTABLE = ("id", "user_openid", "type", "params", "created_at")

_SAME_WORKER = "(NEW.worker_id = OLD.worker_id OR (NEW.worker_id IS NULL AND OLD.worker_id IS NULL))"

# The progress of a type with steps never falls; that of another one is 0 where a new attempt follows.
_BEGINS_ANEW = "NEW.progress = CASE WHEN OLD.steps IS NULL THEN 0 ELSE OLD.progress END"

# A step back to pending leads to a new attempt; a remote job goes on in the same attempt, and its progress never falls.
_STARTS_OVER = f"CASE NEW.status WHEN 'pending' THEN {_BEGINS_ANEW} ELSE NEW.progress >= OLD.progress END"

# The conditions of an arrow besides the counted columns.  Status pairs and counted columns come from the table.
_DEMANDS = {
    Event.ADMIT: "OLD.admitted_charge <> OLD.charge AND NEW.work_id IS NOT NULL",
    Event.CLAIM: "OLD.admitted_charge = OLD.charge AND NEW.progress = OLD.progress",
    Event.RIPEN: f"NEW.progress = OLD.progress AND {_SAME_WORKER}",
    Event.PROGRESS: f"NEW.progress >= OLD.progress AND {_SAME_WORKER}",
    Event.HAND_OFF: "NEW.worker_id IS NULL AND NEW.progress >= OLD.progress",
    Event.POLL: "NEW.worker_id IS NOT NULL AND NEW.progress >= OLD.progress",
    Event.NOT_YET: "NEW.worker_id IS NULL AND NEW.progress >= OLD.progress",
    Event.ADVANCE: (
        "OLD.worker_id IS NOT NULL AND NEW.worker_id IS NULL AND NEW.step <= OLD.last_step"
        " AND NEW.progress >= OLD.progress"
    ),
    Event.COMPLETE: "OLD.step = OLD.last_step",
    Event.RETRY: _BEGINS_ANEW,
    # Only the worker that polls it can know this, so plain SQL can't put back a row that waits for its service.
    Event.ORDER_AGAIN: "OLD.worker_id IS NOT NULL AND NEW.worker_id IS NULL AND " + _BEGINS_ANEW,
    Event.RELEASE: f"NEW.worker_id IS NULL AND {_STARTS_OVER}",
    Event.POSTPONE: f"NEW.worker_id IS NULL AND {_STARTS_OVER}",
}


def _counted(arrow: Transition) -> list[str]:
    """The condition for each counted column."""
    demands = {
        Rule.SAME: "NEW.{0} = OLD.{0}",
        Rule.PLUS_ONE: "NEW.{0} = OLD.{0} + 1",
        Rule.MAY_RISE: "NEW.{0} - OLD.{0} BETWEEN 0 AND 1",
        Rule.ZERO: "NEW.{0} = 0",
        Rule.TO_CHARGE: "NEW.{0} = OLD.charge",
        Rule.TO_FIRST: "NEW.{0} = NEW.first_step",
    }
    return [demands[arrow.rule(column)].format(column) for column in COUNTED]


def legal_step(arrow: Transition) -> str:
    """The SQL condition under which an UPDATE is this arrow."""
    parts = [f"OLD.status = '{arrow.source}' AND NEW.status = '{arrow.target}'", *_counted(arrow)]
    if arrow.event in _DEMANDS:
        parts.append(_DEMANDS[arrow.event])
    if arrow.target in OPEN:
        # Otherwise a pending row could look like the first half of a resubmit (legal_update_on_sqlite).
        parts.append("NEW.finished_at IS NULL")
    return "(" + " AND ".join(parts) + ")"


RUN_AFTER_IS_GIVEN_AT_INSERT = (
    "run_after of a task is given at insert; cancel it and order another one for another time"
)


def run_after_is_ours() -> str:
    """The SQL condition under which a new run_after is a legal step; any other change could leave a row stuck.

    A task that is put back gets a delay, and a retried one gets none.  For a waiting task, an operator may end the
    delay, and a delay is moved if it was written before the clock was set back, which its updated_at shows.
    """
    return (
        "(NEW.status = 'pending' AND OLD.status <> 'pending')"
        " OR (NEW.status = 'pending' AND OLD.status = 'pending' AND"
        " ((NEW.run_after IS NULL AND OLD.ready = 0 AND NEW.ready = 1 AND OLD.admitted_charge = OLD.charge)"
        " OR (OLD.attempt > 0 AND NEW.run_after < OLD.run_after AND NEW.updated_at < OLD.updated_at)))"
    )


_OR = "\n            OR "

# Columns that say which steps a task takes, and what they cost if a later one fails.
STEPS = ("steps", "first_step", "last_step", "lane", "kept")
STEPS_ARE_FIXED = "the steps of a task are fixed when it is admitted"


def steps_are_fixed() -> str:
    """The SQL condition under which a change of a column of STEPS is legal: an admission, a resubmission; an advance,
    of its lane and of what is kept; a failure, which keeps less where the results of finished steps are gone; or the
    first steps of a waiting task that was admitted before its type had any."""
    same = " AND ".join(
        f"(NEW.{column} = OLD.{column} OR (NEW.{column} IS NULL AND OLD.{column} IS NULL))"
        for column in ("steps", "first_step", "last_step")
    )
    return (
        "NEW.admitted_charge <> OLD.admitted_charge OR NEW.charge <> OLD.charge"
        f" OR (NEW.step > OLD.step AND NEW.kept >= OLD.kept AND {same})"
        f" OR (NEW.status = 'failed' AND OLD.status <> 'failed' AND NEW.kept BETWEEN 0 AND OLD.kept"
        f" AND NEW.lane = OLD.lane AND {same})"
        " OR (OLD.steps IS NULL AND OLD.status = 'pending' AND NEW.status = 'pending'"
        " AND NEW.first_step = OLD.first_step AND NEW.kept = OLD.kept)"
    )


def counted_unchanged() -> str:
    """The SQL condition that no counted column changes."""
    return " AND ".join(f"NEW.{column} = OLD.{column}" for column in COUNTED)


def legal_steps() -> dict[str, dict[str, str]]:
    """{status before: {status after: the condition of the arrow}}, for PostgreSQL's guard.

    There, a trigger has already set the columns of a manual retry.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for arrow in TRANSITIONS:
        found.setdefault(arrow.source, {}).setdefault(arrow.target, []).append(legal_step(arrow))
    return {
        source: {target: _OR.join(steps) for target, steps in targets.items()}
        for source, targets in found.items()
    }


def legal_update_on_sqlite() -> str:
    """The guard's condition on SQLite.

    A trigger can't change NEW there, so a manual retry is two steps inside one statement: the outer UPDATE
    sets the status alone (every counted column stays), and a trigger's inner UPDATE then applies the arrow's
    columns to the row, which is known by its `finished_at`.
    """
    steps = [legal_step(arrow) for arrow in TRANSITIONS if arrow.event is not Event.RESUBMIT]
    resubmit = next(arrow for arrow in TRANSITIONS if arrow.event is Event.RESUBMIT)
    steps.append(
        f"(OLD.status IN ('failed','cancelled') AND NEW.status = 'pending' AND {counted_unchanged()}"
        " AND NEW.finished_at IS NOT NULL)"
    )
    inner = " AND ".join(_counted(resubmit))
    steps.append(
        f"(OLD.status = 'pending' AND NEW.status = 'pending' AND OLD.finished_at IS NOT NULL"
        f" AND NEW.finished_at IS NULL AND {inner})"
    )
    return _OR.join(steps)
