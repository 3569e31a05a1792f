"""Orders and changes in a call: `add` and `update` as orders, cancels and retries.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from config.settings import Settings
from supervisor.core.ids import is_task_id
from supervisor.core.task_params import BadTask, Submission, check_submission
from supervisor.security.tokens import is_user_name
from web.doors.cloudbase.ejson import SERVER_TIME
from web.doors.cloudbase.refusal import Refused

# Members that the system sets: a document may give them with their initial value, or, for a time, with any value.
_OWN = {"status": "pending", "progress": 0, "error": None}
_OWN_TIMES = ("created_at", "updated_at")
_ORDER = ("type", "params", "priority", "run_after", "webhook")
_TAKEN = ("_id", "user_openid", *_ORDER, "status", "created_at")

_NOTED = ("updated_at", "cancelled_at")  # an update may give a time; the system stores its own


@dataclass(frozen=True)
class Order:
    """A document for task_queue.  task_id: None makes one."""

    user: str
    task_id: str | None
    submission: Submission


def order_of(document: Any, settings: Settings) -> Order:
    """The order in a document.  Raises Refused, BadTask."""
    if not isinstance(document, Mapping):
        raise Refused("add() takes a document.")
    unknown = next((name for name in document if name not in (*_TAKEN, *_OWN, *_OWN_TIMES)), None)
    if unknown is not None:
        raise Refused(
            f"A document of task_queue has no member {str(unknown)[:100]!a}: it has {', '.join(_TAKEN)}, priority, "
            "run_after and webhook; what is to reach the AI service belongs into params.parameters."
        )
    for name, born in _OWN.items():
        if name in document and document[name] != born:
            raise Refused(
                f"{name} is set by Darkroom; leave it out, or give {born!r}.".replace("None", "null")
            )
    for name in _OWN_TIMES:
        if name in document and not (
            document[name] is SERVER_TIME or isinstance(document[name], datetime | str | int | float)
        ):
            raise Refused(f"{name} is a Date; Darkroom keeps its own.")
    user, task_id = document.get("user_openid"), document.get("_id")
    if not isinstance(user, str) or not is_user_name(user):
        raise Refused(
            "user_openid must be the OPENID of the user whose task this is: 1-128 characters, no control characters."
        )
    if task_id is not None and not (isinstance(task_id, str) and is_task_id(task_id)):
        raise Refused("_id must be 1-64 characters of A-Z a-z 0-9 _ -, or left out.")
    body = {name: document[name] for name in _ORDER if name in document}
    if isinstance(body.get("run_after"), datetime):
        body["run_after"] = _as_text(body["run_after"])
    _refuse_times(body.get("params"))
    return Order(user, task_id, check_submission(body, settings, may_jump_the_queue=True))


Wanted = Literal["cancelled", "pending"]


def status_of(data: Any) -> Wanted:
    """The change in an update of tasks.  data: `{"$set": {…}}`, decoded.  Raises Refused."""
    changes = data.get("$set") if isinstance(data, Mapping) and set(data) == {"$set"} else None
    status = changes.get("status") if isinstance(changes, Mapping) else None
    if (
        not isinstance(changes, Mapping)
        or status not in ("cancelled", "pending")
        or set(changes) - {"status", *_NOTED}
    ):
        raise Refused(
            "A task is changed by update({ status: 'cancelled' }), or by update({ status: 'pending' }) to run it "
            "again; everything else of it is set by Darkroom."
        )
    return "cancelled" if status == "cancelled" else "pending"


def _refuse_times(params: Any) -> None:
    """Dates are not allowed in params: the AI service receives JSON."""
    waiting = [params]
    while waiting:
        here = waiting.pop()
        if isinstance(here, datetime) or here is SERVER_TIME:
            raise BadTask([("/params", "A Date can't be handed to an AI service; give text or a number.")])
        if isinstance(here, Mapping | list):
            waiting += here.values() if isinstance(here, Mapping) else here


def _as_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
