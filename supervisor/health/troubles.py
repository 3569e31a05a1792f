"""The troubles of the system, in the order in which an operator should look at them.  Pure: from an overview to a few
lines.

Each trouble has a `level` (`bad`: it affects users now; `warn`: it soon may), a `code` for programs, its `subject` or
None, `values`, and a `text` for people that says what to do: the sentence of its code in `SENTENCES`, with the values
filled in.  The page /ops has the same sentences in Chinese.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from supervisor.core.sentences import filled
from supervisor.health.sweep_liveness import Sweeps, sweeps_judged
from supervisor.remote.breaker import TROUBLES

Trouble = dict[str, Any]
Seen = dict[str, Any]

OLD_SECONDS = 120.0
LATE_SECONDS = 3600.0
UNMOVED_SECONDS = 120.0  # for a type with too few runs to know its usual time
LEAST_UNMOVED_SECONDS = 15.0
UNMOVED_REMOTE_SECONDS, LEAST_UNMOVED_REMOTE_SECONDS = 600.0, 60.0
FEW_FAILURES, MOST_FAILED_SHARE = 5, 0.5
FEW_TROUBLES = 3  # failures of a service in a row; at ten its breaker opens
FEW_POSTPONED = 3  # in a minute
OF_LATE_SECONDS = 60.0
MOST_SKEW_SECONDS = 2.0
NO_ROOM_STAGES = {  # `supervisor.objects.disk_space`
    "waiting for disk space": "disk",
    "waiting for the file store": "store",
}
STORMS = ("streams", "requests", "feed_opened")

BAD, WARN = "bad", "warn"

SENTENCES = {
    "no_workers": (BAD, "No worker takes tasks: start one, or look why it ended."),
    "workers_silent": (
        BAD,
        "No worker takes tasks: {count} drain, or have shown no heartbeat for up to {silent_seconds}, judged by the"
        " {judge}. They are frozen, or can't write the database: look at their logs and hosts, or start"
        " `darkroom worker` elsewhere.",
    ),
    "worker_silent": (
        WARN,
        "The worker {subject} on {host} has shown no heartbeat for {silent_seconds}: it begins nothing, and its"
        " tasks go to others.",
    ),
    "no_dispatcher": (BAD, "No dispatcher works: nothing is started. Start one, or look why it ended."),
    "dispatcher_silent": (
        BAD,
        "The dispatcher {subject} has shown no beat for {silent_seconds}: nothing is started, and no silent"
        " worker is found; the age of heartbeats is shown by the database's clock. It is frozen, or can't write the"
        " database (is the disk full?): look at its log, then end its process with `kill -9`, and another one begins.",
    ),
    "broker_away": (
        BAD,
        "The broker does not answer: tasks are accepted and wait, what runs goes on. Start it again.",
    ),
    "stuck": (BAD, "Stuck tasks ({subject}): {count}; the next sweep rescues them."),
    "no_progress": (
        WARN,
        "Running tasks have shown nothing new for longer than usual ({count}), {subject} for {unchanged_seconds}:"
        " open it below, or `darkroom show` it: it says why and what can be done.",
    ),
    "remote_unmoved": (
        WARN,
        "Tasks at AI services have shown nothing new for longer than usual ({count}), {subject} for"
        " {unchanged_seconds}: `darkroom show` it: it says how its service calls the job, and when it is given up.",
    ),
    "no_room": (
        BAD,
        "Running tasks are {what} ({count}), {subject} first: what was made is kept. Free some space, or bring the"
        " store back; don't restart the workers before that.",
    ),
    "deadly_task": (
        WARN,
        "Workers have died {deaths|time|times} under the task {subject} of {user} ({type}); at {most_deaths} it is"
        " failed with its refund. If it is what kills them, cancel it.",
    ),
    "type_fails": (
        BAD,
        "Of the last {ended|task|tasks} of {subject} {failed} failed, most as {error_code}: {message} Look at its"
        " service and its settings; “Pause” keeps more from failing.",
    ),
    "rate_limited": (
        WARN,
        "{subject} has refused {count|request|requests} in the last minute, for it is asked too often ({message}) Its"
        " tasks wait and no attempt is counted. Ask it for more, or lower its limits.rps or limits.concurrency.",
    ),
    "at_capacity": (
        WARN,
        "{subject} had no room for {count|request|requests} in the last minute ({message}) Its tasks wait and no"
        " attempt is counted.",
    ),
    "wrong_settings": (
        BAD,
        "{subject} can't be asked as it is set up: {message} Its tasks wait; mend the settings and restart the"
        " workers.",
    ),
    "provider_trouble": (
        WARN,
        "The newest requests to {subject} ended in trouble ({troubles}): {reason} At {most_troubles} in a row nothing"
        " more is sent to it for a while.",
    ),
    "queue_full": (
        BAD,
        "The queue holds {pending|waiting task|waiting tasks}, and LIMITS__PENDING_TASKS is {limit}: new orders are"
        " answered 503 ({times} so far). Add workers, or raise the limit.",
    ),
    "queue_was_full": (
        WARN,
        "The queue was full a moment ago, and orders were answered 503 ({times}). It holds {pending|waiting task|"
        "waiting tasks} now; LIMITS__PENDING_TASKS is {limit}. Add workers, or raise the limit.",
    ),
    "no_credits": (
        WARN,
        "Orders were refused for lack of credits (users: {users}), {subject}'s {times|time|times} since {first_at}:"
        " `darkroom credits grant` gives them more.",
    ),
    "user_limit": (
        WARN,
        "Orders were refused beyond LIMITS__OPEN_TASKS_PER_USER (users: {users}), {subject}'s {times|time|times} since"
        " {first_at}.",
    ),
    "user_storms": (
        WARN,
        "The user {subject} storms us ({what}): {times|time|times} too many since {first_at}. Look at their client;"
        " `darkroom token revoke` shuts them out.",
    ),
    "disk_full": (BAD, "{text} Until then nothing is accepted and nothing finishes; nothing is lost."),
    "disk_low": (WARN, "{text}"),
    "database_full": (
        BAD,
        "The disk of the database's server is full: orders are answered 503, and nothing finishes; nothing is lost."
        " Free some space there.",
    ),
    "database_read_only": (
        BAD,
        "The database's server takes no writes: it is a standby, or was made read-only, as some hosts do when its disk"
        " is full. Nothing is accepted and nothing finishes; nothing is lost. Let DARKROOM_DATABASE_URL lead to the"
        " primary, or unlock it.",
    ),
    "store_away": (
        BAD,
        "{reason} Uploads are answered 503 and pictures are not shown; what is made waits for the store, nothing is"
        " lost.",
    ),
    "clock_ahead": (
        WARN,
        "This host's clock is {off_seconds} ahead of the database's, and tokens, links and signatures are judged by it:"
        " switch on time synchronisation (NTP) on both.",
    ),
    "clock_behind": (
        WARN,
        "This host's clock is {off_seconds} behind the database's, and tokens, links and signatures are judged by it:"
        " switch on time synchronisation (NTP) on both.",
    ),
    "feed_deaf": (
        BAD,
        "This web process gets no notifications of changes: its feeds stand still. Its log says why.",
    ),
    "webhook_fails": (
        WARN,
        "Webhooks to {subject} of {user} do not arrive ({owed} owed): {last_error} The next is sent at {next_at}.",
    ),
    "provider_paused": (WARN, "The provider {subject} is paused: it is sent nothing new."),
    "provider_down": (
        BAD,
        "The provider {subject} has been down since {since_at} ({open_seconds}): {reason} Its tasks wait, and one at a"
        " time tries it, the next at {until_at}. Look at its key, quota and status page.",
    ),
    "type_paused": (WARN, "The type {subject} is paused; waiting tasks: {pending}."),
    "queue_old": (
        WARN,
        "The oldest {subject} task has waited {oldest_seconds}, though slots are free: `darkroom show` says what it"
        " waits for.",
    ),
    "queue_busy": (
        WARN,
        "The oldest {subject} task has waited {oldest_seconds}, and no slot of {slots} is free: add workers, or wait.",
    ),
    "no_worker_for_type": (
        BAD,
        "No worker that lives takes {subject} tasks; waiting: {pending}. A worker takes them that offers {needs}"
        " (DARKROOM_WORKER_OFFERS__…) and is not restricted to other types (DARKROOM_WORKER_TYPES): start one, or look"
        " why it ended. They begin by themselves then, and others do not wait for them.",
    ),
    "sweep_none": (BAD, "No sweep has ever run: look whether a scheduler runs."),
    "sweep_silent": (BAD, "The last sweep began {ago_seconds} ago: look whether a scheduler runs."),
    "up_stopped": (
        BAD,
        "`darkroom up` (process {pid}) is stopped: no part that ends is started again, and none that is frozen is"
        " ended. `kill -CONT {pid}` lets it go on.",
    ),
    "process_down": (BAD, "The process {subject} is {state}."),
    "webhooks_late": (
        WARN,
        "The oldest webhook has been owed for {oldest_seconds}: look at its address below.",
    ),
}


def troubles(seen: Seen) -> list[Trouble]:
    """The worst first; empty when all is well.

    seen: from `supervisor.store.operators.overview` and the process that reads it.
    """
    found = [
        *_parts(seen),
        *_disks(seen),
        *_stuck(seen),
        *_unmoved(seen),
        *_no_room(seen),
        *_deadly(seen),
        *_failing(seen),
        *_postponed(seen),
        *_providers(seen),
        *_queue(seen),
        *_users(seen),
        *_sweep(seen),
        *_processes(seen),
        *_webhooks(seen),
    ]
    return sorted(found, key=lambda each: each["level"] != BAD)


def _trouble(code: str, subject: str | None = None, **values: Any) -> Trouble:
    level, template = SENTENCES[code]
    text = filled(template, {"subject": subject, **values})
    return {"level": level, "code": code, "subject": subject, "values": values, "text": text}


def _parts(seen: Seen) -> Iterator[Trouble]:
    yield from _dispatcher(seen)
    yield from _workers(seen)
    if not seen["is_broker_up"]:
        yield _trouble("broker_away")
    if not seen.get("hears_changes", True):
        yield _trouble("feed_deaf")
    ahead = seen.get("clock_ahead_seconds", 0.0)
    if abs(ahead) > MOST_SKEW_SECONDS:
        yield _trouble("clock_ahead" if ahead > 0 else "clock_behind", off_seconds=abs(ahead))


def _disks(seen: Seen) -> Iterator[Trouble]:
    for each in seen.get("disks", ()):
        yield _trouble("disk_full" if each["is_full"] else "disk_low", each["path"], text=each["text"])
    if refuses := seen.get("database_refuses"):
        yield _trouble(f"database_{refuses}")
    if reason := seen.get("store_trouble"):
        yield _trouble("store_away", reason=reason)


def _dispatcher(seen: Seen) -> Iterator[Trouble]:
    if seen["dispatcher"] is None:
        yield _trouble("no_dispatcher")
    elif seen["judge"] != "dispatcher":
        yield _trouble(
            "dispatcher_silent", seen["dispatcher"], silent_seconds=seen["dispatcher_silent_seconds"]
        )


def _workers(seen: Seen) -> Iterator[Trouble]:
    """A draining worker takes nothing; it is no trouble while other workers take tasks."""
    present = [each for each in seen["workers"] if each["state"] in ("live", "draining")]
    silent = [each for each in present if not each["is_fresh"]]
    if any(each["state"] == "live" and each["is_fresh"] for each in present):
        for each in silent:
            yield _trouble(
                "worker_silent", each["id"], host=each["host"], silent_seconds=each["silent_seconds"]
            )
    elif present:
        yield _trouble(
            "workers_silent",
            count=len(present),
            silent_seconds=max(each["silent_seconds"] for each in present),
            judge="dispatcher" if seen["judge"] == "dispatcher" else "database's clock",
        )
    else:
        yield _trouble("no_workers")


def _stuck(seen: Seen) -> Iterator[Trouble]:
    for reason, count in sorted(seen["stuck_counts"].items()):
        if count:
            yield _trouble("stuck", reason, count=count)


def _unmoved(seen: Seen) -> Iterator[Trouble]:
    """Tasks without a visible change for twice as long as any of the last runs of their type took."""
    usual = {each["type"]: each["usual_seconds"] for each in seen["queue"]}

    def first_of(status: str, least: float, unknown: float) -> tuple[int, Seen] | None:
        def patience(type_: str) -> float:
            known = usual.get(type_)
            return unknown if known is None else max(least, 2 * known)

        still = [
            each
            for each in seen["running"]
            if each["status"] == status
            and each["stage"] not in NO_ROOM_STAGES
            and each["unchanged_seconds"] > patience(each["type"])
        ]
        return (len(still), max(still, key=lambda each: each["unchanged_seconds"])) if still else None

    for code, found in (
        ("no_progress", first_of("processing", LEAST_UNMOVED_SECONDS, UNMOVED_SECONDS)),
        ("remote_unmoved", first_of("ai_processing", LEAST_UNMOVED_REMOTE_SECONDS, UNMOVED_REMOTE_SECONDS)),
    ):
        if found:
            count, first = found
            yield _trouble(code, first["task_id"], count=count, unchanged_seconds=first["unchanged_seconds"])


def _no_room(seen: Seen) -> Iterator[Trouble]:
    waiting = [each for each in seen["running"] if each["stage"] in NO_ROOM_STAGES]
    if waiting:
        yield _trouble(
            "no_room", waiting[0]["task_id"], count=len(waiting), what=NO_ROOM_STAGES[waiting[0]["stage"]]
        )


def _deadly(seen: Seen) -> Iterator[Trouble]:
    for each in seen["deadly"]:
        yield _trouble(
            "deadly_task",
            each["task_id"],
            deaths=each["deaths"],
            most_deaths=2 * each["max_attempts"],
            user=each["user_openid"],
            type=each["type"],
        )


def _failing(seen: Seen) -> Iterator[Trouble]:
    for each in seen["ends"]:
        ended = each["completed"] + each["failed"]
        if each["failed"] >= FEW_FAILURES and each["failed"] / ended >= MOST_FAILED_SHARE:
            yield _trouble(
                "type_fails",
                each["type"],
                failed=each["failed"],
                ended=ended,
                error_code=each["code"],
                message=each["message"],
            )


def _postponed(seen: Seen) -> Iterator[Trouble]:
    for each in seen["postponed"]:
        if each["code"] == "wrong_settings":
            yield _trouble("wrong_settings", each["provider"], message=each["message"])
        elif each["code"] in ("rate_limited", "at_capacity") and each["count"] >= FEW_POSTPONED:
            yield _trouble(each["code"], each["provider"], count=each["count"], message=each["message"])


def _providers(seen: Seen) -> Iterator[Trouble]:
    for each in seen["providers"]:
        if each["is_paused"]:
            yield _trouble("provider_paused", each["name"])
        elif each["breaker"] != "closed":
            yield _trouble(
                "provider_down",
                each["name"],
                since_at=each["opened_at"],
                open_seconds=each["open_seconds"],
                reason=each["reason"] or "it refused us.",
                until_at=each["until"],
            )
        elif each["troubles"] >= FEW_TROUBLES:
            yield _trouble(
                "provider_trouble",
                each["name"],
                troubles=each["troubles"],
                reason=each["reason"],
                most_troubles=TROUBLES,
            )


def _queue(seen: Seen) -> Iterator[Trouble]:
    yield from _full_queue(seen)
    slots = seen["slots"]
    for each in seen["queue"]:
        if each["is_paused"]:
            yield _trouble("type_paused", each["type"], pending=each["pending"])
        elif each["due"] and not each["has_worker"]:
            yield _trouble(
                "no_worker_for_type", each["type"], pending=each["due"], needs=each["needs"] or "nothing"
            )
        elif each["oldest_seconds"] > OLD_SECONDS:
            waited = {"oldest_seconds": each["oldest_seconds"]}
            if slots["busy"] >= slots["all"] > 0:
                yield _trouble("queue_busy", each["type"], **waited, slots=slots["all"])
            else:
                yield _trouble("queue_old", each["type"], **waited)


def _full_queue(seen: Seen) -> Iterator[Trouble]:
    """The queue is full now, or was full when orders were refused recently."""
    pending, limit = sum(each["pending"] for each in seen["queue"]), seen["pending_limit"]
    refused = next((each for each in seen["notices"] if each["kind"] == "queue_full"), None)
    is_refusing = refused is not None and refused["ago_seconds"] <= OF_LATE_SECONDS
    if (limit and pending >= limit) or is_refusing:
        times = refused["times"] if refused and is_refusing else 0
        code = "queue_full" if limit and pending >= limit else "queue_was_full"
        yield _trouble(code, None, pending=pending, limit=limit, times=times)


def _users(seen: Seen) -> Iterator[Trouble]:
    for each in seen["notices"]:
        told = {"times": each["times"], "first_at": each["first_at"]}
        if each["kind"] == "no_credits":
            yield _trouble("no_credits", each["user_openid"], users=each["users"], **told)
        elif each["kind"] == "open_tasks":
            yield _trouble("user_limit", each["user_openid"], users=each["users"], **told)
        elif each["kind"] in STORMS and each["ago_seconds"] <= OF_LATE_SECONDS:
            yield _trouble("user_storms", each["user_openid"], what=each["kind"], **told)


def _sweep(seen: Seen) -> Iterator[Trouble]:
    ended = [run for run in seen["sweeps"] if run["finished_at"] is not None]
    ago_seconds = ended[0]["ago_seconds"] if ended else None
    match sweeps_judged(ago_seconds, seen["dispatcher_working_seconds"]):
        case Sweeps.NEVER:
            yield _trouble("sweep_none")
        case Sweeps.SILENT:
            yield _trouble("sweep_silent", ago_seconds=ago_seconds)


def _processes(seen: Seen) -> Iterator[Trouble]:
    if pid := seen.get("stopped_up"):
        yield _trouble("up_stopped", pid=pid)
    for each in seen["processes"]:
        if each["state"] not in ("ready", "starting", "waiting"):
            yield _trouble("process_down", each["name"], state=each["state"])


def _webhooks(seen: Seen) -> Iterator[Trouble]:
    late = seen["webhooks"]["oldest_seconds"]
    if late > LATE_SECONDS:
        yield _trouble("webhooks_late", oldest_seconds=late)
    for each in seen["webhooks"]["addresses"]:
        if each["owed"]:
            yield _trouble(
                "webhook_fails",
                each["url"],
                owed=each["owed"],
                user=each["user_openid"],
                last_error=each["last_error"],
                next_at=each["next_at"],
            )
