"""How everything stands, for an operator: a bounded set of read-only queries, each over open or newest rows alone."""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from supervisor.database import Row, Transaction
from supervisor.liveness import Liveness
from supervisor.store import (
    audit,
    gauges,
    line,
    liveness,
    pauses,
    rescuing,
    task_counts,
    webhook_health,
)
from supervisor.store.rows import decoded

MOST_IN_LINE = 20
MOST_RUNNING = 100
MOST_STUCK = 100
MOST_FINISHED = 2000  # of a type, that failures are counted among
FAILURES_SECONDS = 3600.0
SWEEPS = 5
ACTIONS = 20

View = dict[str, Any]

_TASK = "id AS task_id, user_openid, type, status, stage, progress, attempt, lease, worker_id AS worker"


def read(tx: Transaction, settings: Settings) -> View:
    """Everything from one snapshot."""
    by_type = queue(tx, settings)
    alive = liveness.read(tx, settings.lease_seconds)
    return {
        "at": tx.value(f"SELECT {tx.as_text(tx.now)}"),
        "queue": by_type,
        "line": line.first_in_line(tx, [each["type"] for each in by_type if each["pending"]], MOST_IN_LINE),
        "running": running(tx),
        "stuck": stuck(tx),
        "stuck_counts": rescuing.count_stuck(tx),
        "workers": workers(tx, alive),
        "dispatcher": alive.dispatcher.holder,
        "dispatcher_silent_seconds": alive.dispatcher.silent_seconds,
        "judge": alive.judge.value,
        "providers": providers(tx, settings),
        "sweeps": sweeps(tx),
        "failures": failures(tx, settings),
        "webhooks": webhook_health.read(tx),
        "pauses": pauses.all_rows(tx),
        "audit": audit.newest(tx, ACTIONS),
    }


def queue(tx: Transaction, settings: Settings) -> list[View]:
    """Each type: tasks by status, how many are due, how long the oldest waits, whether it is paused."""
    counted, ahead, sent = task_counts.open_tasks(tx), gauges.not_due(tx), gauges.dispatched(tx)
    paused = pauses.names(tx, pauses.TYPE)
    types = sorted({*settings.tasks, *(type_ for type_, _ in counted)})
    return [
        {
            "type": type_,
            "pending": counted.get((type_, "pending"), 0),
            "due": counted.get((type_, "pending"), 0) - ahead.get(type_, 0),
            "dispatched": sent.get(type_, 0),
            "processing": counted.get((type_, "processing"), 0),
            "ai_processing": counted.get((type_, "ai_processing"), 0),
            "oldest_seconds": round(gauges.oldest_due_seconds(tx, type_), 1),
            "provider": settings.tasks[type_].provider if type_ in settings.tasks else None,
            "is_paused": type_ in paused,
        }
        for type_ in types
    ]


def running(tx: Transaction) -> list[Row]:
    """Tasks in workers' hands, the longest first, then remote jobs by their next poll; at most so many of each."""
    seconds = (
        f"{tx.seconds_since('processing_started_at')} AS running_seconds, "
        f"{tx.seconds_since('updated_at')} AS unchanged_seconds"
    )
    held = tx.all(
        f"""SELECT {_TASK}, {seconds}, deadline_at, next_poll_at FROM task_queue
            WHERE status IN ('processing','ai_processing') AND worker_id IS NOT NULL AND status = 'processing'
            ORDER BY processing_started_at LIMIT ?""",
        MOST_RUNNING,
    )
    remote = tx.all(
        f"""SELECT {_TASK}, {seconds}, remote_deadline_at AS deadline_at, next_poll_at FROM task_queue
            WHERE status = 'ai_processing' ORDER BY next_poll_at LIMIT ?""",
        MOST_RUNNING,
    )
    return [*held, *remote]


def stuck(tx: Transaction) -> list[Row]:
    """What the next rescue would take, and why."""
    reasons = rescuing.stuck_ids(tx, MOST_STUCK)
    found = []
    for task_id, reason in reasons.items():
        row = tx.one(f"SELECT {_TASK}, deadline_at FROM task_queue WHERE id = ?", task_id)
        if row is not None:
            found.append({**row, "reason": reason})
    return found


def workers(tx: Transaction, alive: Liveness) -> list[View]:
    """Worker processes that are not gone, with what they hold, how long ago they were heard of, and whether they show
    that they live."""
    fresh = {each.id for each in alive.fresh}
    rows = tx.all(
        f"""SELECT id, host, pid, slots, busy, state, started_at,
            {tx.seconds_since("seen_at")} AS silent_seconds,
            (SELECT count(*) FROM task_queue WHERE task_queue.worker_id = worker.id
                AND status IN ('processing','ai_processing')) AS held
        FROM worker WHERE state IN ('live','draining','dead') ORDER BY id"""
    )
    return [{**row, "is_fresh": row["id"] in fresh} for row in rows]


def providers(tx: Transaction, settings: Settings) -> list[View]:
    """Each provider in use: its breaker, its open jobs, whether it is paused."""
    known = {
        row["name"]: row
        for row in tx.all(
            f"""SELECT name, until, troubles, openings,
                CASE WHEN breaker <> 'closed' AND until <= {tx.now} THEN 'half_open' ELSE breaker END AS breaker
                FROM provider_state"""
        )
    }
    rows = tx.all(
        """SELECT provider, count(*) AS n FROM remote_job WHERE state IN ('submitting','waiting')
            GROUP BY provider"""
    )
    open_jobs = {row["provider"]: row["n"] for row in rows}
    paused = pauses.names(tx, pauses.PROVIDER)
    return [
        {
            "name": name,
            "kind": settings.providers[name].kind,
            "breaker": known[name]["breaker"] if name in known else "closed",
            "until": known[name]["until"] if name in known else None,
            "troubles": known[name]["troubles"] if name in known else 0,
            "open_jobs": open_jobs.get(name, 0),
            "is_paused": name in paused,
            "types": sorted(t for t, of in settings.tasks.items() if name in of.all_providers),
        }
        for name in sorted(settings.providers_in_use)
    ]


def sweeps(tx: Transaction) -> list[View]:
    """The newest runs, with how long ago each began."""
    rows = tx.all(
        f"""SELECT minute, started_at, finished_at, counts, {tx.seconds_since("started_at")} AS ago_seconds
            FROM sweep_run ORDER BY minute DESC LIMIT ?""",
        SWEEPS,
    )
    return [{**row, "counts": decoded(row["counts"])} for row in rows]


def failures(tx: Transaction, settings: Settings) -> list[View]:
    """Failures of the last hour by type and error code, among the newest finished tasks of each type."""
    found: dict[tuple[str, str], View] = {}
    for type_ in settings.tasks:
        rows = tx.all(
            f"""SELECT id, error, finished_at FROM
                (SELECT id, status, error, finished_at FROM task_queue
                 WHERE finished_at IS NOT NULL AND type = ? AND finished_at > {tx.in_seconds}
                 ORDER BY finished_at DESC LIMIT ?) AS newest
            WHERE status = 'failed' ORDER BY finished_at DESC""",
            type_, -FAILURES_SECONDS, MOST_FINISHED,
        )  # fmt: skip
        for row in rows:
            error = decoded(row["error"])
            known = found.setdefault(
                (type_, error["code"]),
                {
                    "type": type_,
                    "code": error["code"],
                    "message": error["message"],
                    "count": 0,
                    "last_at": row["finished_at"],
                    "last_task": row["id"],
                },
            )
            known["count"] += 1
    return sorted(found.values(), key=lambda each: (-each["count"], each["code"]))


def sample(tx: Transaction) -> View:
    """A few numbers for charts: what waits, runs and is stuck now, and what has ended since ever, by outcome."""
    counted = task_counts.open_tasks(tx)
    ended = tx.all("SELECT labels, value FROM metric WHERE name = 'darkroom_tasks_finished_total'")
    sums = {"completed": 0.0, "failed": 0.0}
    for row in ended:
        outcome = decoded(row["labels"]).get("outcome")
        if outcome in sums:
            sums[outcome] += row["value"]
    return {
        "at": tx.value(f"SELECT {tx.as_text(tx.now)}"),
        "pending": sum(n for (_, status), n in counted.items() if status == "pending"),
        "running": sum(n for (_, status), n in counted.items() if status != "pending"),
        "stuck": sum(rescuing.count_stuck(tx).values()),
        **sums,
    }
