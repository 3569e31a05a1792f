"""How things stand now, for the metrics: a bounded set of read-only queries.

Open tasks are counted by triggers.  All else reads partial indexes over open rows only, so its cost follows the tasks
that wait and run, never the millions that are finished.  The planner takes such an index only where its own condition
stands in the query word for word.
"""

from __future__ import annotations

import dataclasses

from config.settings import Settings
from supervisor.database import Transaction
from supervisor.liveness import Liveness
from supervisor.store import liveness, rescuing, task_counts, webhook_health
from supervisor.store.dispatching import waits_since

_LAST_TIME = "9999-12-31T23:59:59.999Z"

# Pending tasks that nothing has happened to, and all others: the conditions of two indexes.
_FRESH = "status = 'pending' AND attempt = 0 AND charge = 1 AND run_after IS NULL"
_AGAIN = "status = 'pending' AND (attempt > 0 OR charge > 1 OR run_after IS NOT NULL)"


@dataclasses.dataclass(frozen=True)
class Slots:
    """Task slots of workers that show they live.  draining: empty slots of those that take nothing new."""

    busy: int
    free: int
    draining: int


@dataclasses.dataclass(frozen=True)
class Gauges:
    """One snapshot; what has none of something may lack it.

    open_tasks: {(type, status): tasks}; not_due, dispatched: of the pending ones, by type; oldest_seconds: how long
    the oldest due task of a type waits; alive: who works; dead_workers: marked, their tasks still to be rescued;
    last_sweep: a time, or None; breakers: {provider: 'open' or 'half_open'}, closed ones left out; webhooks: {state:
    deliveries that are owed}, and for how long the oldest of them is.
    """

    open_tasks: dict[tuple[str, str], int]
    not_due: dict[str, int]
    dispatched: dict[str, int]
    oldest_seconds: dict[str, float]
    stuck: dict[str, int]
    alive: Liveness
    dead_workers: int
    last_sweep: str | None
    breakers: dict[str, str]
    webhooks: dict[str, int]
    oldest_webhook_seconds: float


def read(tx: Transaction, settings: Settings) -> Gauges:
    """Everything, from one snapshot."""
    return Gauges(
        open_tasks=task_counts.open_tasks(tx),
        not_due=not_due(tx),
        dispatched=dispatched(tx),
        oldest_seconds={type_: oldest_due_seconds(tx, type_) for type_ in settings.tasks},
        stuck=rescuing.count_stuck(tx),
        alive=liveness.read(tx, settings.lease_seconds),
        dead_workers=int(tx.value("SELECT count(*) FROM worker WHERE state = 'dead'")),
        last_sweep=last_sweep(tx),
        breakers=breakers(tx),
        webhooks=webhook_health.count_open(tx),
        oldest_webhook_seconds=webhook_health.oldest_seconds(tx),
    )


def not_due(tx: Transaction) -> dict[str, int]:
    """Pending tasks by type whose run_after is ahead: the admitted ones, and those that are still to be."""
    rows = tx.all(
        f"""SELECT type, count(*) AS n FROM
            (SELECT type FROM task_queue WHERE status = 'pending' AND ready = 0 AND admitted_charge = charge
                AND run_after > {tx.now}
             UNION ALL
             SELECT type FROM task_queue WHERE status = 'pending' AND admitted_charge <> charge
                AND run_after > {tx.now}) AS ahead
            GROUP BY type"""
    )
    return {row["type"]: row["n"] for row in rows}


def dispatched(tx: Transaction) -> dict[str, int]:
    """Pending tasks by type whose hint is on its way."""
    rows = tx.all(
        """SELECT type, count(*) AS n FROM task_queue WHERE status IN ('pending','ai_processing')
            AND dispatched_at IS NOT NULL AND status = 'pending' GROUP BY type"""
    )
    return {row["type"]: row["n"] for row in rows}


def oldest_due_seconds(tx: Transaction, type_: str) -> float:
    """How long the due task of this type that has waited longest waits; 0 when none is due.

    Fresh rows wait since their submission, so the first of them has waited longest.  The others wait since they were
    put back or became due, which is later than their submission: of them, only those submitted before it can be older.
    """
    fresh = tx.one(
        f"""SELECT created_at, {tx.seconds_since("created_at")} AS seconds FROM task_queue
            WHERE {_FRESH} AND type = ? ORDER BY created_at LIMIT 1""",
        type_,
    )
    again = tx.value(
        f"""SELECT {tx.seconds_between(f"min({waits_since(tx)})", tx.now)} FROM task_queue
            WHERE {_AGAIN} AND type = ? AND created_at <= ? AND (run_after IS NULL OR run_after <= {tx.now})""",
        type_, fresh["created_at"] if fresh else _LAST_TIME,
    )  # fmt: skip
    return max(0.0, float(fresh["seconds"]) if fresh else 0.0, float(again or 0.0))


def slots(alive: Liveness) -> Slots:
    """Slots of present workers; one is busy that holds a task or whose thread is reported busy."""
    empty = {"live": 0, "draining": 0}
    for each in alive.fresh:
        empty[each.state] += max(0, each.slots - each.busy)
    return Slots(sum(each.busy for each in alive.fresh), empty["live"], empty["draining"])


def workers_by_state(alive: Liveness) -> dict[str, int]:
    """Worker processes that show they live, by state."""
    counted = {"live": 0, "draining": 0}
    for each in alive.fresh:
        counted[each.state] += 1
    return counted


def last_sweep(tx: Transaction) -> str | None:
    """When the newest finished sweep ended."""
    ended: str | None = tx.value(
        "SELECT finished_at FROM sweep_run WHERE finished_at IS NOT NULL ORDER BY minute DESC LIMIT 1"
    )
    return ended


def breakers(tx: Transaction) -> dict[str, str]:
    """Circuit breakers that are not closed; one whose time is up lets a task try, and is half open."""
    rows = tx.all(
        f"""SELECT name, CASE WHEN until <= {tx.now} THEN 'half_open' ELSE breaker END AS state
            FROM provider_state WHERE breaker <> 'closed'"""
    )
    return {row["name"]: row["state"] for row in rows}
