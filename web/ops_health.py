"""What is wrong, in the order in which somebody should look at it.  Pure: from an overview to a few lines.

Each has a `level` (`bad`: users are hurt now; `warn`: they soon may be), a `code` for programs, the `subject` it is
about or None, and a `text` for people that says what to do.
"""

from __future__ import annotations

from typing import Any

Trouble = dict[str, Any]

SILENT_SWEEP_SECONDS = 150.0  # two ticks were missed
OLD_SECONDS = 120.0
LATE_SECONDS = 3600.0
UNMOVED_SECONDS = 120.0


def troubles(seen: dict[str, Any]) -> list[Trouble]:
    """The worst first; nothing when all is well."""
    return sorted(
        [
            *_workers(seen),
            *_stuck(seen),
            *_unmoved(seen),
            *_providers(seen),
            *_queue(seen),
            *_sweep(seen),
            *_processes(seen),
            *_webhooks(seen),
        ],
        key=lambda each: each["level"] != "bad",
    )


def _trouble(level: str, code: str, text: str, subject: str | None = None) -> Trouble:
    return {"level": level, "code": code, "subject": subject, "text": text}


def _workers(seen: dict[str, Any]) -> list[Trouble]:
    found = []
    if not any(worker["state"] == "live" for worker in seen["workers"]):
        found.append(_trouble("bad", "no_workers", "No worker takes tasks: start one, or look why it ended."))
    if seen["dispatcher"] is None:
        found.append(_trouble("bad", "no_dispatcher", "No dispatcher works: nothing is started."))
    if not seen["is_broker_up"]:
        text = "The broker does not answer: tasks are accepted and wait, what runs goes on. Start it again."
        found.append(_trouble("bad", "broker_away", text))
    return found


def _stuck(seen: dict[str, Any]) -> list[Trouble]:
    return [
        _trouble("bad", "stuck", f"{count} tasks are stuck ({reason}); the next sweep rescues them.", reason)
        for reason, count in sorted(seen["stuck_counts"].items())
        if count
    ]


def _unmoved(seen: dict[str, Any]) -> list[Trouble]:
    """Those at AI services are left out: they may be silent for as long as they are worked on."""
    still = [
        each
        for each in seen["running"]
        if each["status"] == "processing" and each["unchanged_seconds"] > UNMOVED_SECONDS
    ]
    if not still:
        return []
    first = max(still, key=lambda each: each["unchanged_seconds"])
    who = "1 running task has" if len(still) == 1 else f"{len(still)} running tasks have"
    text = (
        f"{who} shown nothing new for over {UNMOVED_SECONDS / 60:.0f} min, {first['task_id']} for"
        f" {first['unchanged_seconds'] / 60:.0f} min: open it below, it says why and what can be done."
    )
    return [_trouble("warn", "no_progress", text, first["task_id"])]


def _providers(seen: dict[str, Any]) -> list[Trouble]:
    found = []
    for each in seen["providers"]:
        if each["is_paused"]:
            text = f"The provider {each['name']} is paused: it is sent nothing new."
            found.append(_trouble("warn", "provider_paused", text, each["name"]))
        elif each["breaker"] != "closed":
            text = f"The provider {each['name']} is down; tasks wait, and one at a time tries it."
            found.append(_trouble("bad", "provider_down", text, each["name"]))
    return found


def _queue(seen: dict[str, Any]) -> list[Trouble]:
    found = []
    for each in seen["queue"]:
        if each["is_paused"]:
            text = f"The type {each['type']} is paused: {each['pending']} tasks wait."
            found.append(_trouble("warn", "type_paused", text, each["type"]))
        elif each["oldest_seconds"] > OLD_SECONDS:
            text = f"The oldest {each['type']} task has waited {each['oldest_seconds']:.0f} s."
            found.append(_trouble("warn", "queue_old", text, each["type"]))
    return found


def _sweep(seen: dict[str, Any]) -> list[Trouble]:
    ended = [run for run in seen["sweeps"] if run["finished_at"] is not None]
    if ended and ended[0]["ago_seconds"] <= SILENT_SWEEP_SECONDS:
        return []
    if not ended:
        return [_trouble("warn", "sweep_silent", "No sweep has run yet; the first comes within a minute.")]
    text = f"The last sweep began {ended[0]['ago_seconds']:.0f} s ago: look whether a scheduler runs."
    return [_trouble("bad", "sweep_silent", text)]


def _processes(seen: dict[str, Any]) -> list[Trouble]:
    return [
        _trouble("bad", "process_down", f"The process {each['name']} is {each['state']}.", each["name"])
        for each in seen["processes"]
        if each["state"] not in ("ready", "starting", "waiting")
    ]


def _webhooks(seen: dict[str, Any]) -> list[Trouble]:
    late = seen["webhooks"]["oldest_seconds"]
    if late <= LATE_SECONDS:
        return []
    text = f"The oldest webhook has been owed for {late / 60:.0f} min: look at its address below."
    return [_trouble("warn", "webhooks_late", text)]
