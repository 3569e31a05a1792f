"""Actions on many tasks: a row says what is to be done and how far it has come, and parts of it are done one by one.

A *part* is a few tasks in one short transaction: it moves the row's `place`, acts on each task as an operator acts on
one, and records that.  The part is done only if the row's `step` is still the one that was read, and each task only if
it still meets the filter.  So whoever runs the parts may be killed at any moment, several may run at once, and each
task is acted on once.  A task that is refused (too few credits, nothing to release) stays as it is and is counted.

A runner that fails notes that.  After a few failures without a part between them, the action is stopped with the
reason: it holds no other action up, and somebody may resume it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from config.settings import Settings
from supervisor.core.errors import BulkNotFound, Fault
from supervisor.core.ids import new_ulid
from supervisor.database.interface.database import Row, Transaction
from supervisor.selection.task_filter import Action, TaskFilter, read_filter
from supervisor.store.operators import audit, operator_actions, task_search
from supervisor.store.operators.audit import Operator
from supervisor.store.sql.row_isolation import Refused, apart, id_of
from supervisor.store.sql.rows import decoded, encoded

SAMPLE = 10
LISTED = 20
PAGE = 400  # tasks that are looked up at once, in a read
MOST_REASONS = 30
MOST_EXAMPLES = 3  # of each reason
MOST_REASON_CHARACTERS = 200
MOST_FAILURES = 5  # of a runner, without a part between them

View = dict[str, Any]

_OF_CHARGE = "credit_entry.task_id = task_queue.id AND credit_entry.charge = task_queue.charge"
_TAKEN = f"(SELECT -amount FROM credit_entry WHERE {_OF_CHARGE} AND kind = 'debit')"
_GIVEN_BACK = f"(SELECT amount FROM credit_entry WHERE {_OF_CHARGE} AND kind = 'refund')"
# What it will probably move, before, and what it has moved, after.
_WILL_MOVE: dict[str, str] = {"retry": _TAKEN, "cancel": _TAKEN, "release": "0"}
_HAS_MOVED: dict[str, str] = {"retry": _TAKEN, "cancel": _GIVEN_BACK, "release": "0"}


class Next(NamedTuple):
    """What is to be done next.  step: of the row when it was read; tasks: (id, its place), none when all is done."""

    step: int
    tasks: list[tuple[str, View]]


def preview(tx: Transaction, settings: Settings, action: Action, wanted: TaskFilter) -> View:
    """What the action would concern: {action, filter, count, credits, sample}.  Changes nothing.

    filter: as given, and up to this moment, so that a later start concerns no other task.  credits: for retry what
    users pay again if prices are as they were, for cancel what they get back.  sample: the newest few.
    """
    bounded = wanted.up_to(str(tx.value(f"SELECT {tx.as_text(tx.now)}")))
    n, credits = task_search.count(tx, settings, bounded, _WILL_MOVE[action])
    return {
        "action": action,
        "filter": bounded.words(),
        "count": n,
        "credits": credits,
        "sample": task_search.newest(tx, settings, bounded, SAMPLE),
    }


def start(tx: Transaction, operator: Operator, action: Action, seen: View) -> View:
    """Begin an action as its preview has shown it; its view.  The parts are done by `next_tasks` and `do_part`."""
    bulk_id = new_ulid()
    tx.execute(
        """INSERT INTO bulk_action (id, action, filter, operator, role, matched)
            VALUES (:id, :action, :filter, :operator, :role, :matched)""",
        id=bulk_id, action=action, filter=encoded(seen["filter"]), operator=operator.name, role=operator.role,
        matched=seen["count"],
    )  # fmt: skip
    noted = {"action": action, "filter": seen["filter"], "matched": seen["count"]}
    audit.record(tx, operator, f"bulk_{action}", "bulk", bulk_id, after=noted)
    return get(tx, bulk_id)


def stop(tx: Transaction, operator: Operator, bulk_id: str) -> View:
    """Stop a running action after the part that is being done; its view.  Raises BulkNotFound."""
    return _turn(tx, operator, bulk_id, "running", "stopped", "bulk_stop")


def resume(tx: Transaction, operator: Operator, bulk_id: str) -> View:
    """Let a stopped action go on where it was stopped; its view.  Raises BulkNotFound."""
    return _turn(tx, operator, bulk_id, "stopped", "running", "bulk_resume")


def _turn(tx: Transaction, operator: Operator, bulk_id: str, old: str, new: str, action: str) -> View:
    turned = tx.run(
        f"""UPDATE bulk_action SET state = :new, failures = 0, failure = NULL, updated_at = {tx.now}
            WHERE id = :id AND state = :old""",
        new=new, old=old, id=bulk_id,
    )  # fmt: skip
    view = get(tx, bulk_id)
    if turned:
        audit.record(tx, operator, action, "bulk", bulk_id, after={"done": view["done"]})
    return view


def get(tx: Transaction, bulk_id: str) -> View:
    """An action's view.  Raises BulkNotFound."""
    row = tx.one("SELECT * FROM bulk_action WHERE id = :id", id=bulk_id)
    if row is None:
        raise BulkNotFound(bulk_id)
    return _shown(row)


def newest(tx: Transaction) -> list[View]:
    """The newest actions; ids follow time."""
    rows = tx.all("SELECT * FROM bulk_action ORDER BY id DESC LIMIT :most", most=LISTED)
    return [_shown(row) for row in rows]


def running(tx: Transaction) -> list[str]:
    """The ids of actions that have parts to do, the oldest first."""
    return [row["id"] for row in tx.all("SELECT id FROM bulk_action WHERE state = 'running' ORDER BY id")]


def next_tasks(tx: Transaction, settings: Settings, bulk_id: str, most: int = PAGE) -> Next | None:
    """The next tasks of an action; None if it does not run.  Reads only, outside the transactions that act."""
    row = tx.one(
        "SELECT action, filter, place, step FROM bulk_action WHERE id = :id AND state = 'running'", id=bulk_id
    )
    if row is None:
        return None
    wanted = read_filter(decoded(row["filter"]), row["action"])
    return Next(row["step"], task_search.page(tx, settings, wanted, decoded(row["place"]), most))


def note_failure(tx: Transaction, bulk_id: str, reason: str) -> str | None:
    """Record that its runner has failed; the action's state, None if it is gone.  The last of a few stops it."""
    row = tx.one(
        f"""UPDATE bulk_action SET failures = failures + 1, failure = :reason, updated_at = {tx.now},
            state = CASE WHEN state = 'running' AND failures + 1 >= :most THEN 'stopped' ELSE state END
        WHERE id = :id RETURNING state""",
        reason=reason[:MOST_REASON_CHARACTERS], most=MOST_FAILURES, id=bulk_id,
    )  # fmt: skip
    return None if row is None else str(row["state"])


def do_part(
    tx: Transaction,
    settings: Settings,
    bulk_id: str,
    step: int,
    tasks: Sequence[tuple[str, View]],
    *,
    waits: bool = True,
) -> bool:
    """Act on these tasks, the next ones of step `step`; with none, the action is done.  waits: for tasks and accounts
    that another transaction has locked; otherwise these tasks are refused.

    False, with nothing done, if the action was stopped or another runner has done that step.
    """
    place = encoded(tasks[-1][1]) if tasks else None
    row = tx.one(
        f"""UPDATE bulk_action SET step = step + 1, place = coalesce(:place, place), updated_at = {tx.now},
            failures = 0, failure = NULL,
            state = CASE WHEN :is_done = 1 THEN 'done' ELSE state END,
            finished_at = CASE WHEN :is_done = 1 THEN {tx.now} END
        WHERE id = :id AND step = :step AND state = 'running'
        RETURNING action, filter, operator, role, reasons""",
        place=place, is_done=int(not tasks), id=bulk_id, step=step,
    )  # fmt: skip
    if row is None:
        return False
    if not tasks:
        return True
    action, operator = row["action"], Operator(row["operator"], row["role"])
    where, given = task_search.matching(tx, settings, read_filter(decoded(row["filter"]), action))
    # Within CASE no index serves the filter: these few are found by their ids, not among all tasks that meet it.
    meets = f"CASE WHEN {where} THEN 1 ELSE 0 END = 1"
    chosen = tx.all(
        f"SELECT id FROM task_queue WHERE {tx.is_one_of('id', ':ids')} AND {meets} ORDER BY user_openid, id",
        **given, ids=encoded([task_id for task_id, _ in tasks]),
    )  # fmt: skip

    def act(rows: Sequence[Row]) -> list[str]:
        found = tx.all(  # in the one order of locks (CORRECTNESS 27), and those that still match
            f"""SELECT id FROM task_queue WHERE {tx.is_one_of("id", ":ids")} AND {meets}
                ORDER BY user_openid, id{tx.for_update_of("task_queue")}""",
            **given, ids=encoded([each["id"] for each in rows]),
        )  # fmt: skip
        return [_act(tx, settings, operator, action, each["id"], bulk_id) for each in found]

    done, refused = apart(tx, "task_queue", chosen, id_of, act, unreadable=(Fault,), waits=waits)
    reasons = decoded(row["reasons"])
    for each in refused:
        _count(reasons, each)
    credits = tx.value(
        f"""SELECT coalesce(sum({_HAS_MOVED[action]}), 0) FROM task_queue
            WHERE {tx.is_one_of("id", ":ids")}""",
        ids=encoded(done),
    )
    tx.execute(
        """UPDATE bulk_action SET done = done + :done, refused = refused + :refused, passed = passed + :passed,
            credits = credits + :credits, reasons = :reasons WHERE id = :id""",
        done=len(done), refused=len(refused), passed=len(tasks) - len(done) - len(refused), credits=int(credits),
        reasons=encoded(reasons), id=bulk_id,
    )  # fmt: skip
    return True


def _count(reasons: dict[str, Any], refused: Refused) -> None:
    """Add a refused task to {reason: {count, examples}}.  The sentences differ by user and sum, the reasons hardly."""
    sentence = refused.reason.replace(refused.row_id, "…")[:MOST_REASON_CHARACTERS]
    if refused.kind not in reasons and len(reasons) >= MOST_REASONS:
        return
    so_far = reasons.setdefault(refused.kind, {"count": 0, "examples": []})
    so_far["count"] += 1
    if sentence not in so_far["examples"] and len(so_far["examples"]) < MOST_EXAMPLES:
        so_far["examples"].append(sentence)


def _act(
    tx: Transaction, settings: Settings, operator: Operator, action: Action, task_id: str, bulk_id: str
) -> str:
    match action:
        case "retry":
            operator_actions.retry(tx, settings, operator, task_id, bulk_id=bulk_id)
        case "cancel":
            operator_actions.cancel(tx, operator, task_id, bulk_id=bulk_id)
        case "release":
            operator_actions.release(tx, settings, operator, task_id, bulk_id=bulk_id)
    return task_id


def prune(tx: Transaction, older_than_seconds: float, most: int) -> int:
    """Delete old actions that are done or stopped; how many.  What they did stays in `audit`."""
    return tx.run(
        f"""DELETE FROM bulk_action WHERE id IN (SELECT id FROM bulk_action WHERE state <> 'running'
            AND updated_at < {tx.ago(":older_than_seconds")} ORDER BY id LIMIT :most)""",
        older_than_seconds=older_than_seconds, most=most,
    )  # fmt: skip


def _shown(row: Row) -> View:
    hidden = ("place", "step", "failures")
    shown = {name: value for name, value in row.items() if name not in hidden}
    return {**shown, "filter": decoded(row["filter"]), "reasons": _reasons(decoded(row["reasons"]))}


def _reasons(stored: dict[str, Any]) -> list[View]:
    """[{reason, count, examples}], the most frequent first.  A release before has stored {sentence: count}."""
    grouped: dict[str, View] = {}
    for name, of in stored.items():
        if isinstance(of, dict):
            grouped[name] = {"reason": name, **of}
        else:
            other = grouped.setdefault("other", {"reason": "other", "count": 0, "examples": []})
            other["count"] += of
            other["examples"] = [*other["examples"], name][:MOST_EXAMPLES]
    return sorted(grouped.values(), key=lambda each: -int(each["count"]))
