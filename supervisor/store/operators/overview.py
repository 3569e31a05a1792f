"""The state of the whole system, for operators: a bounded set of read-only queries, each only over open or newest
rows."""

from __future__ import annotations

import collections
from typing import Any

from config.settings import Settings
from supervisor.core.placement import at_once, in_words, room_of
from supervisor.database.interface.database import Row, Transaction
from supervisor.health.liveness import Liveness
from supervisor.schema.tables import HELD, OPEN, UNSETTLED
from supervisor.store.counters import open_task_counts
from supervisor.store.limits import notices, pauses
from supervisor.store.operators import audit, bulk_actions, dead_letters, waiting_counts
from supervisor.store.queue import liveness, next_task, queue_snapshot
from supervisor.store.recovery import stuck_tasks
from supervisor.store.sql.rows import decoded
from supervisor.store.webhooks import webhook_health

MOST_IN_LINE = 20
MOST_RUNNING = 100
MOST_STUCK = 100
MOST_FINISHED = 2000  # newest tasks of a type, among which failures are counted
FAILURES_SECONDS = 3600.0
SWEEPS = 5
ACTIONS = 20

View = dict[str, Any]

RECENT_ENDS = 20
FEW_RUNS = 5
NEWEST_EVENTS = 2000
LATE_SECONDS = 60.0  # older events are no longer shown
DEADLY = 2  # workers' deaths in attempts of a task: a single one may have any cause
MOST_DEADLY = 5

_TASK = "id AS task_id, user_openid, type, status, stage, progress, attempt, lease, worker_id AS worker"


def read(tx: Transaction, settings: Settings) -> View:
    """Everything from one snapshot."""
    alive = liveness.read(tx, settings.silent_seconds)
    by_type = queue(tx, settings, alive)
    return {
        "at": tx.value(f"SELECT {tx.as_text(tx.now)}"),
        "queue": by_type,
        "line": next_task.first_in_line(
            tx, [each["type"] for each in by_type if each["pending"]], MOST_IN_LINE
        ),
        "running": running(tx),
        "stuck": stuck(tx),
        "stuck_counts": stuck_tasks.count_stuck(tx),
        "workers": workers(tx, alive),
        "dispatcher": alive.dispatcher.holder,
        "dispatcher_silent_seconds": alive.dispatcher.silent_seconds,
        "dispatcher_working_seconds": alive.working_seconds,
        "judge": alive.judge.value,
        "providers": providers(tx, settings),
        "sweeps": sweeps(tx),
        "failures": failures(tx, settings),
        "ends": ends(tx, settings),
        "postponed": postponed(tx, settings),
        "deadly": deadly(tx),
        "notices": notices.recent(tx),
        "pending_limit": settings.limits.pending_tasks,
        "slots": {"all": alive.slots, "busy": sum(each.busy for each in alive.taking)},
        "webhooks": webhook_health.read(tx),
        "pauses": pauses.all_rows(tx),
        "bulk": bulk_actions.newest(tx),
        "audit": audit.newest(tx, ACTIONS),
    }


def queue(tx: Transaction, settings: Settings, alive: Liveness) -> list[View]:
    """Each type: tasks by status, how many are due, how long the oldest waits, whether it is paused, what it needs, and
    whether a worker takes it."""
    needs = settings.most_needs_of_types
    counted, ahead = open_task_counts.open_tasks(tx), waiting_counts.not_due(tx)
    paused = {row["name"]: row for row in pauses.all_rows(tx) if row["kind"] == pauses.TYPE}
    types = sorted({*settings.tasks, *(type_ for type_, _ in counted)})
    return [
        {
            "type": type_,
            "pending": counted.get((type_, "pending"), 0),
            "due": counted.get((type_, "pending"), 0) - ahead.get(type_, 0),
            "processing": counted.get((type_, "processing"), 0),
            "ai_processing": counted.get((type_, "ai_processing"), 0),
            "oldest_seconds": round(waiting_counts.oldest_due_seconds(tx, type_), 1),
            "provider": settings.tasks[type_].chain[0] if type_ in settings.tasks else None,
            "is_paused": type_ in paused,
            "needs": in_words(needs.get(type_, {})),
            "has_worker": at_once(type_, needs, alive.rooms) > 0 or not alive.taking,
            "usual_seconds": usual_seconds(tx, type_),
        }
        for type_ in types
    ]


def usual_seconds(tx: Transaction, type_: str) -> float | None:
    """The longest of the type's newest runs, in seconds; None while too few are known."""
    runs = queue_snapshot.recent_run_seconds(tx, type_)
    return round(max(runs), 1) if len(runs) >= FEW_RUNS else None


def running(tx: Transaction) -> list[Row]:
    """Tasks that workers run, then tasks at AI services, the longest first; at most so many of each."""
    seconds = f"{tx.seconds_since('processing_started_at')} AS running_seconds, {unchanged(tx)} AS unchanged_seconds"
    held = tx.all(
        f"""SELECT {_TASK}, {seconds}, deadline_at, next_poll_at FROM task_queue
            WHERE {HELD} AND status = 'processing'
            ORDER BY processing_started_at LIMIT :most_running""",
        most_running=MOST_RUNNING,
    )
    remote = tx.all(
        f"""SELECT {_TASK}, {seconds}, remote_deadline_at AS deadline_at, next_poll_at
            FROM task_queue{tx.by_index("task_queue_overdue")}
            WHERE status = 'ai_processing' AND remote_deadline_at IS NOT NULL ORDER BY remote_deadline_at
            LIMIT :most_running""",
        most_running=MOST_RUNNING,
    )
    return [*held, *remote]


def unchanged(tx: Transaction) -> str:
    """SQL for the seconds since a task last showed its user a change; polls do not count."""
    # The work's row is written only when something that its user sees has changed.
    shown = "(SELECT works.updated_at FROM works WHERE works.id = task_queue.work_id)"
    return tx.seconds_since(f"coalesce({shown}, task_queue.created_at)")


def stuck(tx: Transaction) -> list[Row]:
    """The tasks that the next rescue would take, and why."""
    reasons = stuck_tasks.stuck_ids(tx, MOST_STUCK)
    found = []
    for task_id, reason in reasons.items():
        row = tx.one(f"SELECT {_TASK}, deadline_at FROM task_queue WHERE id = :task_id", task_id=task_id)
        if row is not None:
            found.append({**row, "reason": reason})
    return found


def workers(tx: Transaction, alive: Liveness) -> list[View]:
    """Worker processes that have not ended, with the tasks they hold, the age of their heartbeat, and whether they are
    alive."""
    fresh = {each.id for each in alive.fresh}
    rows = tx.all(
        f"""SELECT id, host, pid, slots, busy, state, started_at, offers, types,
            {tx.seconds_since("seen_at")} AS silent_seconds,
            (SELECT count(*) FROM task_queue WHERE task_queue.worker_id = worker.id
                AND {HELD}) AS held
        FROM worker WHERE state IN ('live','draining','dead') ORDER BY id"""
    )
    return [
        {
            **row,
            "offers": in_words(room.offers),
            "types": None if room.types is None else sorted(room.types),
            "is_fresh": row["id"] in fresh,
        }
        for row, room in ((row, room_of(row)) for row in rows)
    ]


def providers(tx: Transaction, settings: Settings) -> list[View]:
    """Each provider in use: its breaker, its open jobs, whether it is paused."""
    known = {
        row["name"]: row
        for row in tx.all(
            f"""SELECT name, until, troubles, openings, opened_at, reason,
                {tx.seconds_between("opened_at", tx.moment)} AS open_seconds,
                CASE WHEN breaker <> 'closed' AND until <= {tx.now} THEN 'half_open' ELSE breaker END AS breaker
                FROM provider_state"""
        )
    }
    rows = tx.all(
        f"""SELECT provider, count(*) AS n FROM remote_job WHERE {UNSETTLED}
            GROUP BY provider"""
    )
    open_jobs = {row["provider"]: row["n"] for row in rows}
    paused = pauses.names(tx, pauses.PROVIDER).get()
    return [
        {
            "name": name,
            "kind": settings.providers[name].kind,
            "breaker": known[name]["breaker"] if name in known else "closed",
            "until": known[name]["until"] if name in known else None,
            "opened_at": known[name]["opened_at"] if name in known else None,
            "open_seconds": max(0.0, known[name]["open_seconds"] or 0.0) if name in known else 0.0,
            "reason": known[name]["reason"] if name in known else "",
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
            FROM sweep_run ORDER BY minute DESC LIMIT :sweeps""",
        sweeps=SWEEPS,
    )
    return [{**row, "counts": decoded(row["counts"])} for row in rows]


def failures(tx: Transaction, settings: Settings) -> list[View]:
    """Failures of the last hour by type and error code, among the newest finished tasks of each type."""
    found: dict[tuple[str, str], View] = {}
    for type_ in dead_letters.ended_types(tx, settings):
        rows = tx.all(
            f"""SELECT id, error, finished_at FROM
                (SELECT id, status, error, finished_at FROM task_queue
                 WHERE finished_at IS NOT NULL AND type = :type_ AND finished_at > {tx.ago(":failures_seconds")}
                 ORDER BY finished_at DESC LIMIT :most_finished) AS newest
            WHERE status = 'failed' ORDER BY finished_at DESC""",
            type_=type_, failures_seconds=FAILURES_SECONDS, most_finished=MOST_FINISHED,
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


def ends(tx: Transaction, settings: Settings) -> list[View]:
    """The results of the newest tasks of each type that workers have run in the last hour: completed, failed, and the
    most frequent error code with its newest message."""
    found = []
    for type_ in settings.tasks:
        rows = tx.all(
            f"""SELECT status, error FROM task_queue
                WHERE finished_at IS NOT NULL AND type = :type_ AND finished_at > {tx.ago(":failures_seconds")}
                  AND status IN ('completed','failed') AND attempt > 0
                ORDER BY finished_at DESC LIMIT :recent_ends""",
            type_=type_, failures_seconds=FAILURES_SECONDS, recent_ends=RECENT_ENDS,
        )  # fmt: skip
        errors = [decoded(row["error"]) for row in rows if row["status"] == "failed"]
        if errors:
            code, _ = collections.Counter(each["code"] for each in errors).most_common(1)[0]
            message = next(each["message"] for each in errors if each["code"] == code)
            completed = len(rows) - len(errors)
            found.append(
                {
                    "type": type_,
                    "completed": completed,
                    "failed": len(errors),
                    "code": code,
                    "message": message,
                }
            )
    return found


def postponed(tx: Transaction, settings: Settings) -> list[View]:
    """Attempts of the last minute that were put back uncounted, by service and reason, among the newest events."""
    rows = tx.all(
        f"""SELECT newest.error, task_queue.type, remote_job.provider FROM
            (SELECT * FROM (SELECT task_id, lease, event, error, at FROM task_event ORDER BY id DESC
            LIMIT :newest_events) AS last
             WHERE event = 'postponed' AND error IS NOT NULL AND at > {tx.ago(":late_seconds")}) AS newest
            JOIN task_queue ON task_queue.id = newest.task_id
            LEFT JOIN remote_job ON remote_job.task_id = newest.task_id AND remote_job.lease = newest.lease
            ORDER BY newest.at DESC""",
        newest_events=NEWEST_EVENTS, late_seconds=LATE_SECONDS,
    )  # fmt: skip
    found: dict[tuple[str, str], View] = {}
    for row in rows:
        of = settings.tasks.get(row["type"])
        provider = row["provider"] or (of.provider if of is not None else row["type"])
        error = decoded(row["error"])
        known = found.setdefault(
            (provider, error["code"]),
            {"provider": provider, "code": error["code"], "message": error["message"], "count": 0},
        )
        known["count"] += 1
    return sorted(found.values(), key=lambda each: (-each["count"], each["provider"]))


def deadly(tx: Transaction) -> list[View]:
    """Open tasks whose workers died again and again, the most deaths first."""
    return tx.all(
        f"""SELECT id AS task_id, user_openid, type, status, deaths, max_attempts, worker_id AS worker
            FROM task_queue{tx.by_index("task_queue_deadly")}
            WHERE {OPEN} AND deaths > 0 AND deaths >= :deadly
            ORDER BY deaths DESC, id LIMIT :most_deadly""",
        deadly=DEADLY, most_deadly=MOST_DEADLY,
    )  # fmt: skip


def sample(tx: Transaction) -> View:
    """A few numbers for charts: waiting, running and stuck tasks now, and all ended tasks by outcome."""
    counted = open_task_counts.open_tasks(tx)
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
        "stuck": sum(stuck_tasks.count_stuck(tx).values()),
        **sums,
    }
