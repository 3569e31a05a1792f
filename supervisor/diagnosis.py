"""Why a task is where it is, what becomes of it by itself, and what a person can do.  Pure.

A reason has a code and values; `WHY` has its sentences, with values put in by name.  Whoever shows them may have words
of their own: values that end in `_seconds` are spans, in `_at` times, the others are said as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.sentences import filled

SILENT_SECONDS = 10.0  # two beats were missed

Values = dict[str, Any]

WHY = {
    "completed": "It is done.",
    "failed": "It has failed: {error} “Try again” runs it once more; its user pays again.",
    "cancelled": "It was cancelled. “Try again” runs it once more; its user pays again.",
    "stuck.dead_worker": "Its worker is dead; the dispatcher, or the next sweep within a minute, gives it"
    " to another. “Release” does it now.",
    "stuck.deadline": "It has run past its deadline, {deadline_at}; the next sweep, within a minute,"
    " tries it again or fails it with its refund, but after an absence of ours or a stepped clock it has its"
    " whole time again. “Release” gives it to another worker now.",
    "stuck.undelivered": "It was sent and nobody has taken it. Look at the broker and the workers; it is"
    " sent again every 10 s.",
    "stuck.remote_overdue": "{provider} has not finished by {deadline_at}. It is asked once more; if it"
    " answers that it still works, the next sweep, within a minute, fails the task with its refund.",
    "stuck.expired": "It has waited longer than it may; the next sweep, within a minute, fails it with its"
    " refund. A service that works on it is asked before, three times in a minute or more.",
    "pending.paused": "Its type is paused; “Resume” lets it go on.",
    "pending.provider": "Its AI service {provider} is down or paused, so it waits, and no attempt is"
    " counted. Look at the service's key, quota and status page; “Cancel” gives the credits back.",
    "pending.failed": "Attempt {attempt} failed ({error}); the next is due at {due_at}. “Release” makes"
    " it due now.",
    "pending.later": "It waits until {due_at}; “Release” makes it due now.",
    "pending.sent": "It is on its way to a worker.",
    "pending": "{position} wait ahead of it for a free slot; done in about {eta_seconds}. If it does not"
    " move, a limit of its user or type is reached.",
    "no_room": "Its worker lives and waits for {what}; what was made so far is kept. Free some space on the disks"
    " of that worker and of the file store, or bring the store back: it goes on by itself within 10 s, and until"
    " then its time limit stands still. Don't restart the worker before that.",
    "processing.silent": "Its worker was last heard of {silent_seconds} ago: if it stays silent, the task"
    " goes to another within 20 s. Nothing is to be done.",
    "processing.asked": "Its worker lives and waits for {provider}, which was asked {asked_seconds} ago"
    " and has not answered; nothing new for {unchanged_seconds}. The call is given up in"
    " {patience_seconds}, and the task tried again while it has attempts left, else failed with its"
    " refund. “Release” asks again in another worker now, “Cancel” gives the credits back. If other tasks"
    " of {provider} hang too, “Pause” it.",
    "processing.asked_once": "Its worker lives and waits for {provider}, which was asked {asked_seconds}"
    " ago and has not answered; nothing new for {unchanged_seconds}. The call is given up in"
    " {patience_seconds}; as {provider} may bill twice, the task is then failed with its refund and not"
    " asked again, and “Release” is refused. “Cancel” gives the credits back now. If other tasks of"
    " {provider} hang too, “Pause” it.",
    "processing": "Its worker lives and works on it with {provider}; nothing new for {unchanged_seconds}. A"
    " call of {provider} is given up after {ai_timeout_seconds}, and the whole attempt at {deadline_at}: then"
    " the task is tried again while it has attempts left, else failed with its refund. “Release” gives it to"
    " another worker now, “Cancel” gives the credits back. If other tasks of {provider} hang too, “Pause” it.",
    "ai_processing": "{provider} has accepted it ({remote_id}) and works on it; nothing new for"
    " {unchanged_seconds}. It is asked again at {poll_at}, and given up with its refund at {deadline_at}."
    " “Release” asks now; “Cancel” cancels it there and gives the credits back; the service's own pages"
    " know it by that id.",
    "ai_processing.provider": "{provider} has accepted it ({remote_id}) and is down or paused; nothing"
    " new for {unchanged_seconds}. What it has accepted goes on: it is asked again at {poll_at}, and given"
    " up with its refund at {deadline_at}. Look at the service's key, quota and status page; “Cancel”"
    " gives the credits back.",
}


def diagnose(
    found: Mapping[str, Any], *, position: int | None = None, eta_seconds: int | None = None
) -> Values:
    """`code`, `values` and `text`.  found: what `store.examining` tells of the task."""
    code, values = _reason(found, position, eta_seconds)
    return {"code": code, "values": values, "text": filled(WHY[code], values)}


def _reason(found: Mapping[str, Any], position: int | None, eta_seconds: int | None) -> tuple[str, Values]:
    task, service = found["task"], found["service"]
    if found["stuck"] is not None:
        deadline = task["deadline_at"] or task["remote_deadline_at"]
        return f"stuck.{found['stuck']}", {"deadline_at": deadline, "provider": service["name"]}
    if found["waits_for_room"]:
        return "no_room", {"what": task["stage"].removeprefix("waiting for ")}
    match task["status"]:
        case "failed":
            return "failed", {"error": task["error"]["message"] if task["error"] else ""}
        case "pending":
            return _why_it_waits(found, position, eta_seconds)
        case "processing":
            return _why_it_runs(found)
        case "ai_processing":
            values = {
                "provider": service["name"],
                "remote_id": service["remote_id"],
                "unchanged_seconds": task["unchanged_seconds"],
                "poll_at": task["next_poll_at"],
                "deadline_at": task["remote_deadline_at"],
            }
            return "ai_processing" if service["is_available"] else "ai_processing.provider", values
        case status:
            return status, {}


def _why_it_waits(
    found: Mapping[str, Any], position: int | None, eta_seconds: int | None
) -> tuple[str, Values]:
    task = found["task"]
    if found["is_paused"]:
        return "pending.paused", {}
    if task["dispatched_at"]:
        return "pending.sent", {}
    if not found["service"]["is_available"]:
        return "pending.provider", {"provider": found["service"]["name"]}
    if found["waits_for_its_time"]:
        failed = [each for each in found["events"] if each["event"] == "attempt_failed"]
        if failed and task["failures"]:
            values = {"attempt": failed[-1]["attempt"], "error": failed[-1]["error"]["message"]}
            return "pending.failed", {**values, "due_at": task["run_after"]}
        return "pending.later", {"due_at": task["run_after"]}
    return "pending", {"position": position, "eta_seconds": eta_seconds}


def _why_it_runs(found: Mapping[str, Any]) -> tuple[str, Values]:
    task, service, worker = found["task"], found["service"], found["worker"]
    if worker is not None and worker["silent_seconds"] > SILENT_SECONDS:
        return "processing.silent", {"silent_seconds": worker["silent_seconds"]}
    values = {"unchanged_seconds": task["unchanged_seconds"], "provider": service["name"]}
    asked = service["asked_seconds"]
    if asked is None:
        limits = {"ai_timeout_seconds": service["ai_timeout_seconds"], "deadline_at": task["deadline_at"]}
        return "processing", values | limits
    values |= {
        "asked_seconds": asked,
        "patience_seconds": max(0.0, (service["ai_timeout_seconds"] or 0.0) - asked),
    }
    return "processing.asked" if service["may_bill_twice"] else "processing.asked_once", values
