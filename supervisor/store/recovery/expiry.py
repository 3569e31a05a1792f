"""Why a task expired: what it waited for all that time, as a sentence for its user.

The history knows why the last attempt was put back.  A task that never began waited for an operator who paused its
type, for a service that is down, or for a free worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.steps.lanes import read_lane
from supervisor.store.limits import pauses
from supervisor.store.sql.conditions import listed
from supervisor.store.sql.rows import decoded

GIVEN_UP = "This was not finished in time and is given up."
ENDS_OF_SENTENCES = (".", "!", "?", "。")
# Steps after which what happened before says nothing about the wait.
_BEGINNINGS = ("submitted", "resubmitted", "advanced")


def why(tx: Transaction, row: Row, providers: Mapping[str, Sequence[str]]) -> str:
    """The message of an expired task.  row: of `task_queue`.  providers: of each type, its fallbacks included."""
    return f"{GIVEN_UP} {_wait(tx, row, providers)}"


def _wait(tx: Transaction, row: Row, providers: Mapping[str, Sequence[str]]) -> str:
    if row["status"] == "ai_processing":
        if row["questions"]:
            return "The AI service had accepted it and did not answer when it was asked for the result."
        return "The AI service had accepted it and did not finish it."
    if row["status"] == "processing":
        return "Its last attempt was still running."
    if said := _last_words(tx, row["id"]):
        return f"It waited to be tried again. The last attempt ended with: {said}"
    never = "It was never begun"
    if row["steps"] is not None:
        never = f"Its step {decoded(row['steps'])[row['step']]['name']} was never begun"
    if pauses.is_paused(tx, pauses.TYPE, row["type"]):
        return f"{never}: an operator has paused this kind of task."
    chain = read_lane(row["lane"]).chain if row["lane"] else providers.get(row["type"], ())
    if halted := _halted(tx, chain):
        return f"{never}: {halted}"
    return f"{never}: no worker was free for it."


def _last_words(tx: Transaction, task_id: str) -> str:
    """The cause of the last attempt's end since the order was put back; empty without an attempt or a known cause."""
    steps = tx.all(
        f"""SELECT event, error FROM task_event WHERE task_id = :task_id AND
            (error IS NOT NULL OR event IN ({listed(_BEGINNINGS)})) ORDER BY id DESC LIMIT 1""",
        task_id=task_id,
    )
    if not steps or steps[0]["event"] in _BEGINNINGS:
        return ""
    error: Any = decoded(steps[0]["error"])
    said = str(error.get("message") or "").strip() if isinstance(error, dict) else ""
    return said if not said or said.endswith(ENDS_OF_SENTENCES) else f"{said}."


def _halted(tx: Transaction, providers: Sequence[str]) -> str:
    """Why none of these services may be asked; empty if one may."""
    paused, reasons = pauses.names(tx, pauses.PROVIDER).get(), list[str]()
    for name in providers:
        down = tx.one("SELECT reason FROM provider_state WHERE name = :name AND breaker = 'open'", name=name)
        if down is not None:
            reasons.append(f"the AI service was down ({down['reason'].rstrip('.') or 'it refused us'}).")
        elif name in paused:
            reasons.append("an operator has paused the AI service.")
        else:
            return ""
    return reasons[0] if reasons else ""
