"""The present state for the metrics: a bounded set of read-only queries.

Triggers count open tasks.  All other queries read partial indexes over open rows only, so their cost depends on waiting
and running tasks, never on millions of finished ones.  The planner uses such an index only if the query repeats the
index's condition word for word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from config.settings import Settings
from supervisor.core.placement import Room, at_once
from supervisor.database.interface.database import Transaction
from supervisor.health.liveness import Liveness
from supervisor.schema.tables import BETWEEN_STEPS
from supervisor.steps.lanes import read_lane
from supervisor.store.counters import open_task_counts
from supervisor.store.limits import notices
from supervisor.store.operators import overview, waiting_counts
from supervisor.store.queue import liveness
from supervisor.store.queue.capacity import less_held
from supervisor.store.recovery import stuck_tasks
from supervisor.store.webhooks import webhook_health

OF_LATE_SECONDS = 60.0
UNTRIED_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Slots:
    """Task slots of live workers.  draining: empty slots of workers that take nothing new."""

    busy: int
    free: int
    draining: int


@dataclasses.dataclass(frozen=True)
class Gauges:
    """One snapshot; zeros may be left out.

    open_tasks: {(type, status): tasks}; not_due: those of the pending ones, by type; oldest_seconds: how long the
    oldest due task of a type has waited; alive: the live dispatcher and workers; dead_workers: marked, with tasks still
    to be rescued; last_sweep: a time, or None; breakers: {provider: 'open' or 'half_open'}, without closed ones, and
    for how long each has been open; webhooks: {state: waiting deliveries}, and the age of the oldest; unmoved_seconds:
    {status: the longest time that a task of it has shown no change}; deadly_tasks: at most five; offers: {(name,
    'free' or 'held'): amount} of workers that take tasks; needed: {name: amount that due tasks need}, and the age of
    the oldest; unplaceable: {type: due tasks, if no worker takes the type}; troubled_users: {kind of notice: affected
    users of the last minute}; at: the database's time.
    """

    open_tasks: dict[tuple[str, str], int]
    not_due: dict[str, int]
    oldest_seconds: dict[str, float]
    stuck: dict[str, int]
    alive: Liveness
    dead_workers: int
    last_sweep: str | None
    breakers: dict[str, str]
    breaker_open_seconds: dict[str, float]
    webhooks: dict[str, int]
    oldest_webhook_seconds: float
    unmoved_seconds: dict[str, float]
    deadly_tasks: int
    offers: dict[tuple[str, str], int]
    needed: dict[str, int]
    oldest_needed_seconds: dict[str, float]
    unplaceable: dict[str, int]
    troubled_users: dict[str, int]
    at: str


def read(tx: Transaction, settings: Settings) -> Gauges:
    """Everything, from one snapshot."""
    open_tasks, not_due = open_task_counts.open_tasks(tx), waiting_counts.not_due(tx)
    oldest = {type_: waiting_counts.oldest_due_seconds(tx, type_) for type_ in settings.tasks}
    due = {type_: open_tasks.get((type_, "pending"), 0) - not_due.get(type_, 0) for type_ in settings.tasks}
    alive, most = liveness.read(tx, settings.silent_seconds), settings.most_needs_of_types
    waiting = waiting_needs(tx, settings, due)
    return Gauges(
        open_tasks=open_tasks,
        not_due=not_due,
        oldest_seconds=oldest,
        stuck=stuck_tasks.count_stuck(tx),
        alive=alive,
        dead_workers=int(tx.value("SELECT count(*) FROM worker WHERE state = 'dead'")),
        last_sweep=last_sweep(tx),
        breakers=breakers(tx),
        breaker_open_seconds=breaker_open_seconds(tx),
        webhooks=webhook_health.count_open(tx),
        oldest_webhook_seconds=webhook_health.oldest_seconds(tx),
        unmoved_seconds=unmoved_seconds(tx),
        deadly_tasks=len(overview.deadly(tx)),
        offers=offers(alive, less_held(tx, alive.rooms, settings)),
        needed={
            name: sum(needs.get(name, 0) * count for _, needs, count in waiting)
            for name in settings.names_of_offers
        },
        oldest_needed_seconds={
            name: max((oldest[type_] for type_, needs, _ in waiting if name in needs), default=0.0)
            for name in settings.names_of_offers
        },
        unplaceable={
            type_: 0 if not alive.taking or at_once(type_, most, alive.rooms) else due[type_]
            for type_ in settings.tasks
        },
        troubled_users=notices.users_of_late(tx, OF_LATE_SECONDS),
        at=tx.value(f"SELECT {tx.as_text(tx.now)}"),
    )


def waiting_needs(
    tx: Transaction, settings: Settings, due: Mapping[str, int]
) -> list[tuple[str, Mapping[str, int], int]]:
    """[(type, what a task needs, how many are due)].  Of a type with steps, the tasks between two steps need what the
    next one does, and all others what the first one does.  due: {type: tasks that are due}."""
    between = tx.all(
        f"SELECT type, lane, count(*) AS due FROM task_queue WHERE {BETWEEN_STEPS} AND ready = 1 GROUP BY type, lane"
    )
    found = [(row["type"], read_lane(row["lane"]).needs, row["due"]) for row in between if row["type"] in due]
    for type_, task_type in settings.tasks.items():
        begun = sum(row["due"] for row in between if row["type"] == type_)
        needs = task_type.steps[0].needs if task_type.steps else task_type.needs
        found.append((type_, needs, max(0, due[type_] - begun)))
    return found


def slots(alive: Liveness) -> Slots:
    """Slots of present workers; a slot is busy if it holds a task or if its thread is reported busy."""
    empty = {"live": 0, "draining": 0}
    for each in alive.fresh:
        empty[each.state] += max(0, each.slots - each.busy)
    return Slots(sum(each.busy for each in alive.fresh), empty["live"], empty["draining"])


def offers(alive: Liveness, free: Sequence[Room]) -> dict[tuple[str, str], int]:
    """{(name, state): amount} of what workers that take tasks offer."""
    found: dict[tuple[str, str], int] = {}
    for whole, rest in zip(alive.rooms, free, strict=True):
        for name, amount in whole.offers.items():
            left = max(0, rest.offers[name])
            found[name, "free"] = found.get((name, "free"), 0) + left
            found[name, "held"] = found.get((name, "held"), 0) + amount - left
    return found


def workers_by_state(alive: Liveness) -> dict[str, int]:
    """Live worker processes, by state."""
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
    """Circuit breakers that are not closed; after its waiting time, a breaker lets one task try and is half open."""
    rows = tx.all(
        f"""SELECT name, CASE WHEN until <= {tx.now} THEN 'half_open' ELSE breaker END AS state
            FROM provider_state WHERE breaker <> 'closed'"""
    )
    return {row["name"]: row["state"] for row in rows}


def breaker_open_seconds(tx: Transaction) -> dict[str, float]:
    """{provider: for how long its breaker has been open}, without breakers that may be tried but are not.

    Whether such a service is still down is unknown, and no task waits for it.
    """
    rows = tx.all(
        f"""SELECT name, {tx.seconds_since("opened_at")} AS seconds FROM provider_state
            WHERE breaker <> 'closed' AND until > {tx.ago(":untried_seconds")}""",
        untried_seconds=UNTRIED_SECONDS,
    )
    return {row["name"]: float(row["seconds"] or 0.0) for row in rows}


def unmoved_seconds(tx: Transaction) -> dict[str, float]:
    """{status: the longest time that a running task of it has shown no change}."""
    longest = {"processing": 0.0, "ai_processing": 0.0}
    for each in overview.running(tx):
        longest[each["status"]] = max(longest[each["status"]], float(each["unchanged_seconds"]))
    return longest
