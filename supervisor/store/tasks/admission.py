"""Admit pending tasks: check them, take their credits, make their works, give them their turns.

HTTP admits in the request's transaction; rows written by SQL are admitted by the dispatcher just before it picks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from config.settings import Settings
from supervisor.core.errors import BadParams, Fault, InsufficientCredits, UserBlocked
from supervisor.core.fair_order import Place, Waiting
from supervisor.core.ids import new_ulid
from supervisor.core.price import NOTHING, Cost
from supervisor.core.rescue import is_last_life
from supervisor.core.task_params import CheckedParams, check_params
from supervisor.database.interface.database import Pending, Row, Transaction
from supervisor.media.file_kinds import kind_of_media_type
from supervisor.schema.tables import READY, UNADMITTED
from supervisor.steps.lanes import lane_of
from supervisor.steps.step_orders import hash_of_step
from supervisor.store.counters import counters, step_times
from supervisor.store.ledger import credits
from supervisor.store.limits import notices
from supervisor.store.sql.conditions import waits_since
from supervisor.store.sql.locks import lock_free_accounts
from supervisor.store.sql.row_isolation import Aside, apart, done_apart, id_of
from supervisor.store.sql.rows import decoded, encoded
from supervisor.store.tasks import batch_submission, steps
from supervisor.store.tasks.ending import end_task

STEPS_CAME_LATE = (
    "The task's type has got several steps since an AI service was asked for this task, so it can't go on as it was "
    "ordered. A retry runs all steps."
)
_MOST_PLANNED_LATE = 500  # in one round of the dispatcher
_COLUMNS = "id, user_openid, type, params, priority, charge"
_OF_NEW = "user_openid = ANY (ARRAY(SELECT user_openid FROM new))"


@dataclasses.dataclass
class Admitted:
    """What became of the rows that waited for their admission.  rows: how many there were.

    On a server, queries that were sent together with this one's do not see what was admitted.  due: what they lack: the
    tasks that may run now.  running: how many tasks each of their users has running, if that was counted.  clocks: of
    their priorities, as they stand.  is_more:
    they lack more than that, and must be asked again.  held_up: users whose accounts other transactions have locked;
    their rows wait.
    """

    rows: int = 0
    due: list[Waiting] = dataclasses.field(default_factory=list)
    running: dict[str, int] = dataclasses.field(default_factory=dict)
    clocks: dict[int, int] = dataclasses.field(default_factory=dict)
    is_more: bool = False
    held_up: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _Checked:
    """A row with checked params.  order: None if they are wrong; then the fault says why."""

    row: Row
    order: CheckedParams | None
    fault: Fault | None = None


def cost_of(settings: Settings, order: CheckedParams) -> Cost:
    """The price of an order; 0 if credits are turned off."""
    return order.cost if settings.credits.enabled else NOTHING


def check_uploads(uploads: Mapping[tuple[str, str], str | None], user: str, order: CheckedParams) -> None:
    """Check that the uploads in an order belong to its user and have the kind of their list.

    uploads: {(user, id): media type, None for a picture}.  Raises BadParams.
    """
    for kind, place, upload in order.uploads:
        if (user, upload) not in uploads:
            what = "image" if kind == "images" else "file"
            raise BadParams(f"There is no {what} {upload}.", code="image_not_found", member=kind)
        media_type = uploads[user, upload]
        is_of = "images" if media_type is None else kind_of_media_type(media_type)
        if kind not in (is_of, "files"):  # a list of files takes whatever was uploaded
            raise BadParams(
                f"{upload} is {media_type or 'a picture'}: name it in {is_of}, not in {kind}.",
                member=f"{kind}/{place}",
            )


def admission_of(
    settings: Settings,
    task_id: str,
    type_: str,
    order: CheckedParams,
    *,
    user: str,
    turn: int,
    charge: int = 1,
    planned: Planned | None = None,
) -> batch_submission.Admission:
    """The values that the admission of a checked task writes.  planned: for a type with steps."""
    settings_of_type = settings.tasks[type_]
    return batch_submission.Admission(
        task_id,
        new_ulid(),
        turn,
        order.count,
        planned.max_attempts if planned else settings_of_type.max_attempts,
        settings_of_type.expire_seconds,
        user,
        charge,
        less_paid(cost_of(settings, order), planned),
        order.image_ids,
        planned.plan if planned else None,
    )


@dataclasses.dataclass(frozen=True)
class Planned:
    """The steps of a task.  max_attempts: of the first of them.  paid_credits: what an earlier charge has paid for
    steps that are not made again."""

    plan: batch_submission.Plan
    max_attempts: int
    paid_credits: int = 0


def plan_of(tx: Transaction, settings: Settings, type_: str) -> Planned | None:
    """The steps of a new task, as the settings say now; None for a type without steps."""
    fixed = _fixed_steps(tx, settings, type_)
    return None if fixed is None else _planned(fixed, 0)


def plan_late(tx: Transaction, settings: Settings, type_: str, aside: Aside) -> int:
    """Give ready tasks that were admitted before their type had steps the steps of today; how many there were.

    The first step alone would not be what was ordered, and what they were admitted with is in no settings any more.  A
    task for which a service was asked already, and may have been paid, can't begin anew in the same charge: it fails,
    and a retry runs all steps.
    """
    planned = plan_of(tx, settings, type_)
    others, left_alone = aside.others(tx, "id")
    rows = tx.all(
        f"""SELECT id, user_openid, EXISTS (SELECT 1 FROM remote_job WHERE remote_job.task_id = task_queue.id
                AND remote_job.charge = task_queue.charge AND remote_job.state <> 'failed') AS was_asked
            FROM task_queue WHERE {READY} AND type = :type_ AND lane = '' AND {others}
            ORDER BY id LIMIT :most{tx.for_update_of_free("task_queue")}""",
        type_=type_, most=_MOST_PLANNED_LATE, **left_alone,
    )  # fmt: skip
    was_asked = {row["id"]: bool(row["was_asked"]) for row in rows}
    payers = {row["user_openid"] for row in rows if planned is None or row["was_asked"]}
    if tx.for_update and payers:
        payers -= lock_free_accounts(tx, payers)
        rows = [row for row in rows if row["user_openid"] not in payers]

    def plan(ids: Sequence[str]) -> list[str]:
        for task_id in ids:
            if planned is None or was_asked[task_id]:
                end_task(tx, "failed", "id = :task_id", error=("internal", STEPS_CAME_LATE), task_id=task_id)
        if planned is not None:
            tx.execute(
                f"""UPDATE task_queue SET steps = {tx.as_json(":fixed")}, last_step = :last_step, lane = :lane,
                        max_attempts = :max_attempts
                    WHERE {tx.is_one_of("id", ":ids")}""",
                fixed=planned.plan.fixed, last_step=planned.plan.last_step, lane=planned.plan.lane,
                max_attempts=planned.max_attempts,
                ids=encoded([task_id for task_id in ids if not was_asked[task_id]]),
            )  # fmt: skip
        return list(ids)

    return len(done_apart(tx, "task_queue", [row["id"] for row in rows], plan, aside))


def _plan_of_row(tx: Transaction, settings: Settings, row: Row) -> Planned | None:
    """The same for a row, which may be a retry: it goes on at the first step without results of the same params."""
    fixed = _fixed_steps(tx, settings, row["type"])
    if fixed is None:
        return None
    if row["charge"] == 1 or not settings.tasks[row["type"]].resume_on_retry:
        return _planned(fixed, 0)
    params = params_of(row)
    hashes = [hash_of_step(fixed, step, params) for step in range(len(fixed))]
    resumed = steps.resumed_at(tx, row["id"], row["charge"], hashes)
    paid = min(resumed.paid_credits, credits.net_paid(tx, row["id"]))
    for step, each in enumerate(fixed):
        each["kept_credits"] = resumed.kept_again(step, each["kept_credits"], paid)
    return _planned(fixed, resumed.step, tuple(hashes[: resumed.step]), paid)


def _fixed_steps(tx: Transaction, settings: Settings, type_: str) -> list[dict[str, Any]] | None:
    """The type's steps as the task keeps them; weights that are not declared are learnt from the run times so far."""
    task_type = settings.tasks[type_]
    return task_type.frozen_steps(step_times.mean_seconds(tx, type_) if task_type.learns_weights else None)


def _planned(
    fixed: list[dict[str, Any]], first: int, hashes: tuple[str, ...] = (), paid_credits: int = 0
) -> Planned:
    plan = batch_submission.Plan(encoded(fixed), first, len(fixed) - 1, lane_of(fixed, first), hashes)
    return Planned(plan, fixed[first]["max_attempts"], paid_credits)


def less_paid(cost: Cost, planned: Planned | None) -> Cost:
    """The cost without what an earlier charge has paid: first of the base, which is never refunded in part."""
    paid = min(planned.paid_credits if planned else 0, cost.credits)
    return (
        dataclasses.replace(cost, credits=cost.credits - paid, base=max(0, cost.base - paid))
        if paid
        else cost
    )


def admit_one(tx: Transaction, settings: Settings, task_id: str) -> None:
    """Admit one pending task.  Raises BadParams, InsufficientCredits: the caller's step is then undone."""
    row = tx.one(f"SELECT {_COLUMNS} FROM task_queue WHERE id = :task_id", task_id=task_id)
    assert row is not None
    _, faulty = _admit_together(tx, settings, [row])
    for _, fault in faulty:
        raise fault


def admit_waiting(
    tx: Transaction,
    settings: Settings,
    most: int,
    aside: Aside | None = None,
    *,
    held_up: Collection[str] = (),
) -> Pending[Admitted]:
    """Admit or reject rows that SQL has inserted, at most so many, users in sorted order.

    A wrong row fails only itself and never the round, because all other admissions wait for the round.  aside: rows to
    leave alone; rows that can't even be failed are added to it and stay unchanged.  If it is not careful, the caller
    repeats the round with a careful one when the database refuses a row: without a savepoint, the writes of this
    function are sent together with the next query.  held_up: users whose rows are left alone: what locks their accounts
    may take hours, and nobody else's task waits for that.
    """
    aside = aside or Aside(is_careful=True)
    others, left_alone = aside.others(tx, "id")
    if held_up:
        others = f"{others} AND NOT {tx.is_one_of('user_openid', ':held_up')}"
        left_alone = {**left_alone, "held_up": encoded(sorted(held_up))}
    which = f"FROM task_queue WHERE {UNADMITTED} AND {others} ORDER BY user_openid, id LIMIT :most"
    columns = f"""{_COLUMNS}, created_at, attempt, lease, deaths,
        {tx.seconds_between(waits_since(tx), tx.moment)} AS waited,
        CASE WHEN run_after IS NULL OR run_after <= {tx.now} THEN 1 ELSE 0 END AS is_due"""
    if not tx.dialect.has_many_writers:
        asked = tx.ask(f"SELECT {columns} {which}", **left_alone, most=most)
        return Pending(lambda: Admitted(_admit_rows(tx, settings, asked.all(), aside)))
    # The insert of a task has opened its user's account.
    asked = tx.ask(
        f"""WITH new AS MATERIALIZED (SELECT {columns} {which}{tx.for_update_of_free("task_queue")}),
            payers AS MATERIALIZED (SELECT user_openid FROM account WHERE {_OF_NEW}{tx.for_update_of_free("account")})
        SELECT new.*, (user_openid IN (SELECT user_openid FROM payers)) IS TRUE AS is_ours FROM new""",
        **left_alone, most=most,
    )  # fmt: skip
    known = batch_submission.ask_known(
        tx, f"SELECT id, user_openid, priority, params {which}",
        counts_running=bool(settings.limits.running_tasks_per_user), **left_alone, most=most,
    )  # fmt: skip

    def admit() -> Admitted:
        found = asked.all()
        rows = [row for row in found if row["is_ours"]]
        held_up = sorted({row["user_openid"] for row in found if not row["is_ours"]})
        if not rows:
            return Admitted(held_up=held_up)
        if aside.is_careful:
            return Admitted(_admit_rows(tx, settings, rows, aside), is_more=True, held_up=held_up)
        told = known.get()
        is_told = all(row["id"] in told for row in rows)
        admitted = _admit_or_reject(tx, settings, rows, told[rows[0]["id"]] if is_told else None)
        is_all_due = all(row["is_due"] for row, _ in admitted)
        due = [_waiting(row, each) for row, each in admitted] if is_all_due else []
        running, clocks = (told[rows[0]["id"]].running, told[rows[0]["id"]].clocks) if is_told else ({}, {})
        return Admitted(len(rows), due, running, clocks, is_more=not is_all_due, held_up=held_up)

    return Pending(admit)


def _admit_rows(tx: Transaction, settings: Settings, rows: list[Row], aside: Aside) -> int:
    said: dict[str, str] = {}

    def admit(some: Sequence[Row]) -> list[str]:
        _admit_or_reject(tx, settings, some)
        return [row["id"] for row in some]

    def fail(some: Sequence[Row]) -> list[str]:
        for row in some:
            reject(tx, row, "internal", f"The database refused the admission: {said[row['id']]}.")
        return [row["id"] for row in some]

    if not aside.is_careful:
        return len(admit(rows)) if rows else 0
    _, refused = apart(tx, "task_queue", rows, id_of, admit)
    aside.refused.extend(each for each in refused if each.is_locked)
    said |= {each.row_id: each.reason for each in refused if not each.is_locked}
    _, refused = apart(tx, "task_queue", [row for row in rows if row["id"] in said], id_of, fail)
    aside.refused.extend(refused)
    return len(rows)


def _admit_or_reject(
    tx: Transaction, settings: Settings, rows: Sequence[Row], known: batch_submission.Known | None = None
) -> list[tuple[Row, batch_submission.Admission]]:
    """The admitted rows.  known: if it was read already."""
    admitted, faulty = _admit_together(tx, settings, rows, known)
    for row, fault in faulty:
        reject(tx, row, error_code(fault), str(fault))
    return admitted


def _admit_together(
    tx: Transaction, settings: Settings, rows: Sequence[Row], known: batch_submission.Known | None = None
) -> tuple[list[tuple[Row, batch_submission.Admission]], list[tuple[Row, Fault]]]:
    """Admit the valid rows; these, and the others with their faults."""
    checked = [_checked(settings, row) for row in rows]
    known = known or batch_submission.known(
        tx,
        lines=[(row["user_openid"], row["priority"]) for row in rows],
        images=[image for each in checked if each.order is not None for image in each.order.image_ids],
    )
    admitted: list[tuple[Row, batch_submission.Admission]] = []
    faulty: list[tuple[Row, Fault]] = []
    for each in checked:
        row, user = each.row, each.row["user_openid"]
        try:
            known.refuse_blocked(user)
            if each.order is None:
                raise each.fault or AssertionError
            check_uploads(known.uploads, user, each.order)
            planned = _plan_of_row(tx, settings, row)
            known.pay(user, less_paid(cost_of(settings, each.order), planned).credits)
        except Fault as fault:
            faulty.append((row, fault))
            continue
        turn = known.take_turn(user, row["priority"])
        admission = admission_of(
            settings,
            row["id"],
            row["type"],
            each.order,
            user=user,
            turn=turn,
            charge=row["charge"],
            planned=planned,
        )
        admitted.append((row, admission))
    if admitted:
        batch_submission.admit(tx, [admission for _, admission in admitted])
    return admitted, faulty


def _waiting(row: Row, admission: batch_submission.Admission) -> Waiting:
    """An admitted row as the pick reads it."""
    place = Place(-row["priority"], admission.turn, row["created_at"], row["id"])
    lives = 2 * admission.max_attempts - row["deaths"]
    return Waiting(
        place,
        row["user_openid"],
        row["type"],
        max(0.0, float(row["waited"])),
        admission.plan.first_step if admission.plan else 0,
        admission.plan.lane if admission.plan else "",
        alone=is_last_life(lives),
        suspect_lives=lives if row["deaths"] >= admission.max_attempts else None,
        lease=row["lease"],
        is_new=not row["attempt"],
    )


def _checked(settings: Settings, row: Row) -> _Checked:
    try:
        return _Checked(row, check_params(row["type"], params_of(row), settings))
    except Fault as fault:
        return _Checked(row, None, fault)


def reject(tx: Transaction, task: Row, code: str, message: str) -> None:
    """Fail a pending task; its work is made too, so that its user sees the reason."""
    counted_as = counters.OTHER if code == "unknown_type" else task["type"]
    end_task(
        tx, "failed", "id = :task_id AND status = 'pending'", error=(code, message), counted_as=counted_as,
        task_id=task["id"],
    )  # fmt: skip
    if code == "insufficient_credits":
        notices.add(tx, {(notices.Notice.NO_CREDITS, task["user_openid"]): 1})


def params_of(row: Row) -> Any:
    """The params of a row.  Raises BadParams for JSON that SQLite accepts and Python does not (too deep, too long)."""
    try:
        return decoded(row["params"])
    except (ValueError, RecursionError):
        raise BadParams("params are nested too deep, or hold a number that is too long.") from None


def error_code(fault: Fault) -> str:
    """The task's error.code for a fault of admission."""
    if isinstance(fault, BadParams):
        return fault.code
    match fault:
        case InsufficientCredits():
            return "insufficient_credits"
        case UserBlocked():
            return "user_blocked"
    return "bad_params"
