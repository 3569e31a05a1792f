"""What is wrong, in the order in which somebody should look at it.  Pure: from an overview to a few lines.

Each has a `level` (`bad`: users are hurt now; `warn`: they soon may be), a `code` for programs, the `subject` it is
about or None, `values`, and a `text` for people that says what to do: the sentence of its code in `SENTENCES`, with
the values put in.  The page /ops has the same sentences in Chinese.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from supervisor.sentences import filled

Trouble = dict[str, Any]
Seen = dict[str, Any]

SILENT_SWEEP_SECONDS = 150.0  # two ticks were missed
OLD_SECONDS = 120.0
LATE_SECONDS = 3600.0
UNMOVED_SECONDS = 120.0

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
        "The worker {subject} on {host} has shown no heartbeat for {silent_seconds}; its tasks go to others.",
    ),
    "no_dispatcher": (BAD, "No dispatcher works: nothing is started. Start one, or look why it ended."),
    "dispatcher_silent": (
        BAD,
        "The dispatcher {subject} has shown no beat for {silent_seconds}: nothing is started, and nobody judges"
        " workers; how old their heartbeats are is told by the database's clock. It is frozen, or can't write the"
        " database (is the disk full?): look at its log, then end its process with `kill -9`, and another one begins.",
    ),
    "broker_away": (
        BAD,
        "The broker does not answer: tasks are accepted and wait, what runs goes on. Start it again.",
    ),
    "stuck": (BAD, "{count} tasks are stuck ({subject}); the next sweep rescues them."),
    "no_progress": (
        WARN,
        "{count} running tasks have shown nothing new for longer than usual, {subject} for {unchanged_seconds}:"
        " open it below, or `darkroom show` it: it says why and what can be done.",
    ),
    "provider_paused": (WARN, "The provider {subject} is paused: it is sent nothing new."),
    "provider_down": (BAD, "The provider {subject} is down; tasks wait, and one at a time tries it."),
    "type_paused": (WARN, "The type {subject} is paused: {pending} tasks wait."),
    "queue_old": (WARN, "The oldest {subject} task has waited {oldest_seconds}."),
    "sweep_none": (WARN, "No sweep has run yet; the first comes within a minute."),
    "sweep_silent": (BAD, "The last sweep began {ago_seconds} ago: look whether a scheduler runs."),
    "process_down": (BAD, "The process {subject} is {state}."),
    "webhooks_late": (
        WARN,
        "The oldest webhook has been owed for {oldest_seconds}: look at its address below.",
    ),
}


def troubles(seen: Seen) -> list[Trouble]:
    """The worst first; nothing when all is well.  seen: what `supervisor.store.overview` and its reader tell."""
    found = [
        *_parts(seen),
        *_stuck(seen),
        *_unmoved(seen),
        *_providers(seen),
        *_queue(seen),
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


def _dispatcher(seen: Seen) -> Iterator[Trouble]:
    if seen["dispatcher"] is None:
        yield _trouble("no_dispatcher")
    elif seen["judge"] != "dispatcher":
        yield _trouble(
            "dispatcher_silent", seen["dispatcher"], silent_seconds=seen["dispatcher_silent_seconds"]
        )


def _workers(seen: Seen) -> Iterator[Trouble]:
    """A worker that drains takes nothing, and is no trouble while others do."""
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
    """Those at AI services are left out: they may be silent for as long as they are worked on."""
    still = [
        each
        for each in seen["running"]
        if each["status"] == "processing" and each["unchanged_seconds"] > UNMOVED_SECONDS
    ]
    if still:
        first = max(still, key=lambda each: each["unchanged_seconds"])
        yield _trouble(
            "no_progress",
            first["task_id"],
            count=len(still),
            unchanged_seconds=first["unchanged_seconds"],
        )


def _providers(seen: Seen) -> Iterator[Trouble]:
    for each in seen["providers"]:
        if each["is_paused"]:
            yield _trouble("provider_paused", each["name"])
        elif each["breaker"] != "closed":
            yield _trouble("provider_down", each["name"])


def _queue(seen: Seen) -> Iterator[Trouble]:
    for each in seen["queue"]:
        if each["is_paused"]:
            yield _trouble("type_paused", each["type"], pending=each["pending"])
        elif each["oldest_seconds"] > OLD_SECONDS:
            yield _trouble("queue_old", each["type"], oldest_seconds=each["oldest_seconds"])


def _sweep(seen: Seen) -> Iterator[Trouble]:
    ended = [run for run in seen["sweeps"] if run["finished_at"] is not None]
    if not ended:
        yield _trouble("sweep_none")
    elif ended[0]["ago_seconds"] > SILENT_SWEEP_SECONDS:
        yield _trouble("sweep_silent", ago_seconds=ended[0]["ago_seconds"])


def _processes(seen: Seen) -> Iterator[Trouble]:
    for each in seen["processes"]:
        if each["state"] not in ("ready", "starting", "waiting"):
            yield _trouble("process_down", each["name"], state=each["state"])


def _webhooks(seen: Seen) -> Iterator[Trouble]:
    late = seen["webhooks"]["oldest_seconds"]
    if late > LATE_SECONDS:
        yield _trouble("webhooks_late", oldest_seconds=late)
