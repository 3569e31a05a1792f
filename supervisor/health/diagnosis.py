"""The reason of a task's present state, what will happen by itself, and what a person can do.  Pure.

A reason has a code and values; `WHY` holds its sentence, with values filled in by name.  A front end may have its own
sentences.  A value whose name ends in `_seconds` is a duration, one whose name ends in `_at` is a time; all others are
shown as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.core.sentences import filled
from supervisor.health.troubles import NO_ROOM_STAGES

SILENT_SECONDS = 10.0  # two beats were missed
LATE_BEGIN_SECONDS = 6.0  # a worker's next heartbeat says which tasks it has begun
# Events after which a task may wait for a time.
PUT_BACK = (
    "postponed",
    "attempt_failed",
    "released",
    "resubmitted",
)

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
    "stuck.undelivered": "It was given to its worker, which has not begun it. Look at the broker and that worker;"
    " the worker finds it at its next heartbeats, every few seconds. “Release” gives it to another now.",
    "stuck.remote_overdue": "{provider} has not finished by {deadline_at}. It is asked once more; if it"
    " answers that it still works, the next sweep, within a minute, fails the task with its refund.",
    "stuck.expired": "It has waited longer than it may; the next sweep, within a minute, fails it with its"
    " refund. A service that works on it is asked before, three times in a minute or more.",
    "pending.paused": "Its type is paused; “Resume” lets it go on.",
    "pending.no_dispatcher": "No dispatcher works (the last beat was {silent_seconds} ago), so nothing is"
    " started. `darkroom doctor` says what to do; it begins by itself once one works.",
    "pending.no_workers": "No worker takes tasks, so nothing is started. `darkroom doctor` says what to do;"
    " it begins by itself once one does.",
    "pending.no_worker_for_type": "No worker that lives takes its type {type}: it needs one that offers {needs}"
    " (DARKROOM_WORKER_OFFERS__…) and is not restricted to other types (DARKROOM_WORKER_TYPES). It begins by itself"
    " once there is one; no other task waits for it meanwhile.",
    "pending.needs": "It needs {needs}, and other tasks hold what workers offer of it: {position} wait ahead of it;"
    " done in about {eta_seconds}. More workers that offer it would help.",
    "pending.no_broker": "The broker does not answer, so nothing reaches a worker. Start it again; the task"
    " is sent within 10 s.",
    "pending.provider": "Its AI service {provider} has been down since {since_at}: {reason} So it waits, and"
    " no attempt is counted; one request at a time tries the service, the next at {next_at}. It waits until"
    " {expires_at} (EXPIRE_SECONDS after its order), and is then failed with its refund. Look at the service's"
    " address, key, quota and status page; “Cancel” gives the credits back.",
    "pending.provider_paused": "Its AI service {provider} is paused, so it waits, and no attempt is counted;"
    " “Resume” lets it go on.",
    "pending.postponed": "{error} So it was put back ({reason}), and no attempt is counted; it is due at"
    " {due_at}, and if this goes on it waits until {expires_at} (EXPIRE_SECONDS after its order). “Release” makes"
    " it due now.",
    "pending.rate_limited": "{provider} has limited our requests since {since_at}: {error} It asks for patience, so the"
    " task waits, and no attempt is counted; it is due at {due_at}, and waits until {expires_at} (EXPIRE_SECONDS after"
    " its order) at most. An earlier request would be refused too, so “Release” is not offered. See the provider's"
    " `limits.rps` and your quota there; “Cancel” gives the credits back.",
    "pending.died": "Its worker died under it, as {deaths} did so far; at {most_deaths} it is failed with"
    " its refund. It is due at {due_at}, “Release” makes it due now.",
    "pending.suspect": "Workers have died under it {deaths|time|times}, so it may be what kills them: it runs"
    " with few others like it, at last alone, and at {most_deaths|death|deaths} it is failed with its refund. No"
    " free slot helps; “Cancel” ends it now.",
    "pending.user_limit": "Its user {user} has {running|task|tasks} running, which is the limit"
    " (RUNNING_TASKS_PER_USER {limit}): it begins when one of them ends.",
    "pending.type_limit": "As many tasks of its type {type} run as may ({running}), which is the limit"
    " (MAX_RUNNING {limit}): it begins when one of them ends.",
    "pending.unknown": "{position} wait ahead of it for a free slot; when it will be done is not known. If"
    " it does not move, its service has no room.",
    "pending.failed": "Attempt {attempt} failed ({error}); the next is due at {due_at}. “Release” makes"
    " it due now.",
    "pending.later": "It waits until {due_at}; “Release” makes it due now.",
    "pending": "{position} wait ahead of it for a free slot; done in about {eta_seconds}. If it does not"
    " move, its service has no room.",
    "no_room": "Its worker lives and is {what}; what was made so far is kept. Free some space on the disks"
    " of that worker and of the file store, or bring the store back: it goes on by itself within 10 s, and until"
    " then its time limit stands still. Don't restart the worker before that.",
    "processing.silent": "Its worker's last heartbeat was {silent_seconds} ago: if it stays silent, the task"
    " goes to another within 20 s. Nothing is to be done.",
    "processing.unjudged": "Its worker's last heartbeat was {silent_seconds} ago. The dispatcher, which would give"
    " the task to another worker, is silent too ({dispatcher_seconds}), so the task stays."
    " `darkroom doctor` says what to do.",
    "processing.unbegun": "It was given to its worker {unbegun_seconds} ago, which has not reported yet that it has"
    " begun: the broker's message may be late or lost. The worker finds it in the database by itself, at its"
    " second heartbeat. Nothing is to be done.",
    "processing.asked": "Its worker lives and waits for {provider}, which was asked {asked_seconds} ago"
    " and has not answered; nothing new for {unchanged_seconds}. The call is given up in"
    " {patience_seconds}, and the task tried again while it has attempts left, else failed with its"
    " refund. “Release” asks again in another worker now, “Cancel” gives the credits back. If other tasks"
    " of {provider} hang too, “Pause” it.",
    "processing.asked_once": "Its worker lives and waits for {provider}, which was asked {asked_seconds}"
    " ago and has not answered; nothing new for {unchanged_seconds}. The call is given up in"
    " {patience_seconds}; as {provider} must not be asked twice (MAY_BILL_TWICE is false), the task is then"
    " failed with its refund and not asked again, and “Release” is refused. “Cancel” gives the credits back"
    " now. If other tasks of {provider} hang too, “Pause” it.",
    "processing": "Its worker lives and works on it with {provider}; nothing new for {unchanged_seconds}. A"
    " call of {provider} is given up after {ai_timeout_seconds}, and the whole attempt at {limit_at}: then"
    " the task is tried again while it has attempts left, else failed with its refund. “Release” gives it to"
    " another worker now, “Cancel” gives the credits back. If other tasks of {provider} hang too, “Pause” it.",
    "ai_processing": "{provider} has accepted it ({remote_id}) and works on it; nothing new for"
    " {unchanged_seconds}. It is asked again at {poll_at}, and given up with its refund at {deadline_at}."
    " “Release” asks now; “Cancel” cancels it there and gives the credits back; the service's own pages"
    " know it by that id.",
    "ai_processing.nobody": "{provider} has accepted it ({remote_id}) and works on it, but it is not polled:"
    " no dispatcher works, or no worker takes tasks. `darkroom doctor` says what to do; polls go on once"
    " they do.",
    "ai_processing.provider": "{provider} has accepted it ({remote_id}) and is down or paused since"
    " {since_at} ({reason}); nothing new for {unchanged_seconds}. What it has accepted goes on: it is asked"
    " again at {poll_at}, and given up with its refund at {deadline_at}. Look at the service's key, quota and"
    " status page; “Cancel” gives the credits back.",
}


def diagnose(
    found: Mapping[str, Any], *, position: int | None = None, eta_seconds: int | None = None
) -> Values:
    """`code`, `values` and `text`.  found: the task's data from `store.operators.task_details`."""
    code, values = _reason(found, position, eta_seconds)
    return {"code": code, "values": values, "text": filled(WHY[code], values)}


def _reason(found: Mapping[str, Any], position: int | None, eta_seconds: int | None) -> tuple[str, Values]:
    task, service = found["task"], found["service"]
    if found["stuck"] is not None:
        deadline = task["deadline_at"] or task["remote_deadline_at"]
        return f"stuck.{found['stuck']}", {"deadline_at": deadline, "provider": service["name"]}
    if found["waits_for_room"]:
        return "no_room", {"what": NO_ROOM_STAGES[task["stage"]]}
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
            if not (found["house"]["is_dispatcher_fresh"] and found["house"]["takes_tasks"]):
                return "ai_processing.nobody", {name: values[name] for name in ("provider", "remote_id")}
            if service["is_available"]:
                return "ai_processing", values
            why = {"since_at": service["down_since"], "reason": service["down_reason"] or "paused"}
            return "ai_processing.provider", values | why
        case status:
            return status, {}


def _why_it_waits(
    found: Mapping[str, Any], position: int | None, eta_seconds: int | None
) -> tuple[str, Values]:
    task, service = found["task"], found["service"]
    if found["is_paused"]:
        return "pending.paused", {}
    if nobody := _nobody_works(found["house"]):
        return nobody
    needs = {"needs": found["room"]["needs"] or "nothing"}
    if not found["room"]["has_worker"]:
        return "pending.no_worker_for_type", {"type": task["type"], **needs}
    if not service["is_available"]:
        return _why_its_service_is_not(service, task["expires_at"])
    if found["waits_for_its_time"]:
        return _why_later(found)
    if task["deaths"] >= task["max_attempts"]:
        return "pending.suspect", _deaths(task)
    if reached := _reached_limit(task, found["limits"]):
        return reached
    if found["room"]["needs"] and not found["room"]["free"] and eta_seconds is not None:
        return "pending.needs", {"position": position, "eta_seconds": eta_seconds, **needs}
    code = "pending" if eta_seconds is not None else "pending.unknown"
    return code, {"position": position, "eta_seconds": eta_seconds} if code == "pending" else {
        "position": position
    }


def _nobody_works(house: Mapping[str, Any]) -> tuple[str, Values] | None:
    if not house["is_dispatcher_fresh"]:
        return "pending.no_dispatcher", {"silent_seconds": house["dispatcher_silent_seconds"]}
    if not house["takes_tasks"]:
        return "pending.no_workers", {}
    return None if house["is_broker_up"] else ("pending.no_broker", {})


def _why_its_service_is_not(service: Mapping[str, Any], expires_at: str) -> tuple[str, Values]:
    if service["is_paused"]:
        return "pending.provider_paused", {"provider": service["name"]}
    return "pending.provider", {
        "provider": service["name"],
        "since_at": service["down_since"],
        "reason": service["down_reason"] or "it refused us.",
        "next_at": service["asked_next_at"],
        "expires_at": expires_at,
    }


def _why_later(found: Mapping[str, Any]) -> tuple[str, Values]:
    """Why a task waits for a later time: the reason of the last step that put it back, else its user's own
    `run_after`."""
    task = found["task"]
    due = {"due_at": task["run_after"]}
    last = next((each for each in reversed(found["events"]) if each["event"] in PUT_BACK), None)
    if last is None or not task["attempt"]:
        return "pending.later", due
    if last["event"] == "postponed" and last["error"]:
        if is_rate_limited(last):
            since = {"provider": found["service"]["name"], "since_at": _limited_since(found["events"])}
            said = {"error": last["error"]["message"], "expires_at": task["expires_at"]}
            return "pending.rate_limited", due | since | said
        why = {"error": last["error"]["message"], "reason": last["error"]["code"]}
        return "pending.postponed", due | why | {"expires_at": task["expires_at"]}
    if last["event"] == "attempt_failed":
        return "pending.failed", due | {"attempt": last["attempt"], "error": last["error"]["message"]}
    if last["event"] == "released" and last["error"]:
        return "pending.died", due | _deaths(task)
    return "pending.later", due


def is_rate_limited(event: Mapping[str, Any]) -> bool:
    """Whether a step of a task's history put it back because its service limits requests."""
    return event["event"] == "postponed" and bool(event["error"]) and event["error"]["code"] == "rate_limited"


def _limited_since(events: Sequence[Mapping[str, Any]]) -> Any:
    """Since when each step has put the task back for this reason: the time of the first of them."""
    since = None
    for each in reversed([each for each in events if each["event"] in PUT_BACK]):
        if not is_rate_limited(each):
            break
        since = each["at"]
    return since


def _deaths(task: Mapping[str, Any]) -> Values:
    return {"deaths": task["deaths"], "most_deaths": 2 * task["max_attempts"]}


def _reached_limit(task: Mapping[str, Any], limits: Mapping[str, Any]) -> tuple[str, Values] | None:
    if limits["user_limit"] and limits["user_running"] >= limits["user_limit"]:
        of_user = {"running": limits["user_running"], "limit": limits["user_limit"]}
        return "pending.user_limit", {"user": task["user_openid"], **of_user}
    if limits["type_limit"] and limits["type_running"] >= limits["type_limit"]:
        of_type = {"running": limits["type_running"], "limit": limits["type_limit"]}
        return "pending.type_limit", {"type": task["type"], **of_type}
    return None


def _why_it_runs(found: Mapping[str, Any]) -> tuple[str, Values]:
    task, service, worker = found["task"], found["service"], found["worker"]
    if worker is not None and worker["silent_seconds"] > SILENT_SECONDS:
        silent = {"silent_seconds": worker["silent_seconds"]}
        if found["house"]["is_dispatcher_fresh"]:
            return "processing.silent", silent
        return "processing.unjudged", silent | {
            "dispatcher_seconds": found["house"]["dispatcher_silent_seconds"]
        }
    unbegun = found["unbegun_seconds"]
    if unbegun is not None and (unbegun > LATE_BEGIN_SECONDS or not found["house"]["is_broker_up"]):
        return "processing.unbegun", {"unbegun_seconds": unbegun}
    values = {"unchanged_seconds": task["unchanged_seconds"], "provider": service["name"]}
    asked = service["asked_seconds"]
    if asked is None:
        limits = {"ai_timeout_seconds": service["ai_timeout_seconds"], "limit_at": task["limit_at"]}
        return "processing", values | limits
    values |= {
        "asked_seconds": asked,
        "patience_seconds": max(0.0, (service["ai_timeout_seconds"] or 0.0) - asked),
    }
    return "processing.asked" if service["may_bill_twice"] else "processing.asked_once", values
