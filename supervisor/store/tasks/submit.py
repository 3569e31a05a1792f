"""Submit many tasks at once: one statement a step for all of them, instead of several for each.

Under load, dozens of submissions wait for the writer of a web process.  One by one, each would cost as much time for
passing on the interpreter's lock as in SQLite itself; together they cost one INSERT, one debit and one admission.  A
single submission is a batch of one.

A wrong order gives an outcome, not an exception, and does not affect the others: limits, credits and images are read
once at the beginning, under the locks of the users' accounts, and updated order by order.  If the database refuses the
whole batch all the same, its orders are tried one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from config.settings import Settings
from supervisor.core.errors import (
    AccountLocked,
    Fault,
    KeyReused,
    QueueFull,
    Revoked,
    TooManyOpenTasks,
    UserBlocked,
)
from supervisor.core.ids import new_ulid
from supervisor.core.task_params import check_params
from supervisor.database.interface.database import Transaction
from supervisor.database.interface.errors import DatabaseError, is_locked
from supervisor.database.interface.life_lock import LifeLock
from supervisor.security.token_proof import is_revoked, owner_of
from supervisor.store.counters import open_task_counts
from supervisor.store.limits import blocks, revocations
from supervisor.store.sql.row_isolation import is_about_a_row
from supervisor.store.sql.rows import encoded, task_view
from supervisor.store.tasks import (
    admission,
    batch_submission,
    cut_orders,
    idempotency_keys,
    task_views,
    traces,
    unanswered_orders,
)
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.webhooks import deliveries

# The wait in the answer to a refused producer.  Every started task frees a place in the queue.
RETRY_AFTER_OPEN_SECONDS = 10
RETRY_AFTER_FULL_SECONDS = 30


class Submitted(NamedTuple):
    """The view of a submitted task.  is_replay: an earlier request has made it, with the same key or cut off."""

    view: dict[str, Any]
    is_replay: bool


class _Accepted(NamedTuple):
    """An order that will be stored."""

    new: NewTask
    admission: batch_submission.Admission


Outcome = Submitted | Exception


def check_room(settings: Settings, *, open_tasks: int, pending: int) -> None:
    """Check whether one more task may be open, by the limits of the user and of the queue.

    Raises TooManyOpenTasks, QueueFull.
    """
    limits = settings.limits
    if limits.open_tasks_per_user and open_tasks >= limits.open_tasks_per_user:
        raise TooManyOpenTasks(limits.open_tasks_per_user, RETRY_AFTER_OPEN_SECONDS)
    if limits.pending_tasks and pending >= limits.pending_tasks:
        raise QueueFull(limits.pending_tasks, RETRY_AFTER_FULL_SECONDS)


def submit_many(
    tx: Transaction,
    settings: Settings,
    orders: Sequence[NewTask],
    *,
    pending: int | None = None,
    waits: bool = True,
    life: LifeLock | None = None,
) -> list[Outcome]:
    """Insert and admit tasks; one outcome for each order, in their order.

    pending: the number of waiting tasks by a reading of this second (CORRECTNESS 11); None counts them here.
    waits: for accounts that another transaction has locked; otherwise the outcome of such users' orders is
    AccountLocked, and they may be tried again.
    life: of the process that owes the answers to orders which an SDK may repeat; None where nobody does.
    The outcome of a refused order is one of BadParams, InsufficientCredits, TooManyOpenTasks, QueueFull, KeyReused, or
    IntegrityError if the database refuses it; nothing is stored for it.
    """
    tx.send("SAVEPOINT submission")
    try:
        outcomes = _submit_together(tx, settings, orders, pending, waits, life)
    except DatabaseError as error:
        is_left_out = is_locked(error) and not waits
        if not (is_left_out or is_about_a_row(error)):
            raise
        # One of them can't be stored, and it is unknown which.
        tx.execute("ROLLBACK TO submission")
        if len(orders) == 1:
            outcomes = [AccountLocked() if is_left_out else error]
        else:
            outcomes = [
                submit_many(tx, settings, [each], pending=pending, waits=waits, life=life)[0]
                for each in orders
            ]
    tx.send("RELEASE submission")
    return outcomes


def _submit_together(
    tx: Transaction,
    settings: Settings,
    orders: Sequence[NewTask],
    pending: int | None,
    waits: bool,
    life: LifeLock | None,
) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    accepted: dict[int, _Accepted] = {}
    twins: dict[int, int] = {}  # the earlier order of this batch with the same key
    by_key: dict[tuple[str, ...], int] = {}
    proofs = [proof for new in orders for proof in new.proofs]
    revoked = revocations.ask(tx, proofs) if proofs else None  # it is sent together with the next query
    # an order for the token's own user finds their block under the account's lock
    services = {owner for new in orders for owner in owner_of(new.proofs) if owner != new.user}
    blocked_services = blocks.ask(tx, *services) if services else None
    desk = _Desk(tx, settings, orders, pending, waits)
    blocked = (
        {row["user_openid"] for row in blocked_services.all()} if blocked_services is not None else set()
    )
    revocation_rows = revoked.all() if revoked is not None else []
    repeated = cut_orders.take_over(
        tx,
        {
            n: new.repeats
            for n, new in enumerate(orders)
            if new.repeats is not None and new.key is None and new.user not in desk.locked
        },
        life,
    )
    for n, new in enumerate(orders):
        try:
            if revocation_rows and is_revoked(revocation_rows, new.proofs):
                raise Revoked
            if new.user in desk.locked:
                raise AccountLocked
            desk.refuse_blocked(new.user)
            for owner in owner_of(new.proofs):
                if owner in blocked:
                    raise UserBlocked(owner)
            if new.key is not None:
                first = by_key.setdefault(new.key.place, n)
                if first != n:
                    if orders[first].key != new.key:
                        raise KeyReused
                    twins[n] = first
                    continue
                known = idempotency_keys.task_of(tx, new.key)
                if known is not None:
                    outcomes[n] = Submitted(known, True)
                    continue
            if n in repeated and (view := task_views.get(tx, repeated[n], new.user)) is not None:
                outcomes[n] = Submitted(view, True)
                continue
            accepted[n] = desk.accept(new)
        except Fault as fault:
            outcomes[n] = fault
    if accepted:
        for n, view in zip(accepted, _store(tx, list(accepted.values())), strict=True):
            outcomes[n] = Submitted(view, False)
            key = orders[n].key
            if key is not None:
                idempotency_keys.keep(tx, key, view["task_id"])
    for n, first in twins.items():
        outcome = outcomes[first]
        outcomes[n] = Submitted(outcome.view, True) if isinstance(outcome, Submitted) else outcome
    told = [outcomes[n] for n in range(len(orders))]
    if life is not None and life.is_held:
        _note_unanswered(tx, orders, told, life.name)
    return told


def _note_unanswered(
    tx: Transaction, orders: Sequence[NewTask], outcomes: Sequence[Outcome], holder: str
) -> None:
    owed = [
        (outcome.view["task_id"], new.repeats)
        for new, outcome in zip(orders, outcomes, strict=True)
        if new.repeats is not None and new.key is None and isinstance(outcome, Submitted)
    ]
    if owed:
        unanswered_orders.note(tx, owed, holder)


class _Desk:
    """The data needed to accept orders, read once, and updated while they are accepted one after another."""

    def __init__(
        self,
        tx: Transaction,
        settings: Settings,
        orders: Sequence[NewTask],
        pending: int | None,
        waits: bool,
    ) -> None:
        self._tx, self._settings = tx, settings
        self._known = batch_submission.known(
            tx,
            lines=[(new.user, new.priority) for new in orders],
            images=[image for new in orders for image in _images_of(new)],
            count_open_to=settings.limits.open_tasks_per_user,
            waits=waits,
        )
        self.locked = self._known.locked
        self._plans: dict[str, admission.Planned | None] = {}
        self._pending = 0
        if settings.limits.pending_tasks:
            self._pending = open_task_counts.pending(tx) if pending is None else pending

    def refuse_blocked(self, user: str) -> None:
        """Raises UserBlocked, for a repeated order too."""
        self._known.refuse_blocked(user)

    def accept(self, new: NewTask) -> _Accepted:
        """The order as it will be stored.  Raises a Fault."""
        user, known = new.user, self._known
        check_room(self._settings, open_tasks=known.open_tasks[user], pending=self._pending)
        checked = new.checked or check_params(new.type, new.params, self._settings)
        admission.check_uploads(known.uploads, user, checked)
        price = admission.cost_of(self._settings, checked).credits
        if price:
            known.open_account(self._tx, user)
        known.pay(user, price)
        known.open_tasks[user] += 1
        self._pending += 1
        turn = known.take_turn(user, new.priority)
        return _Accepted(
            new,
            admission.admission_of(
                self._settings,
                new.task_id or new_ulid(),
                new.type,
                checked,
                user=user,
                turn=turn,
                planned=self._plan_of(new.type),
            ),
        )

    def _plan_of(self, type_: str) -> admission.Planned | None:
        if type_ not in self._plans:
            self._plans[type_] = admission.plan_of(self._tx, self._settings, type_)
        return self._plans[type_]


def insert_unadmitted(tx: Transaction, new: NewTask) -> str:
    """Insert an order as a program does by SQL: the dispatcher admits or fails it.  Its task's id."""
    task_id = new.task_id or new_ulid()
    batch_submission.insert(
        tx,
        [
            batch_submission.NewRow(
                task_id, new.user, new.type, encoded(new.params), new.priority, new.run_after
            )
        ],
    )
    if new.webhook:
        doors = {task_id: new.webhook_door} if new.webhook_door else {}
        deliveries.name(tx, [(task_id, new.webhook)], doors)
    return task_id


def _store(tx: Transaction, accepted: list[_Accepted]) -> list[dict[str, Any]]:
    """Insert, debit, admit; the views, in order."""
    batch_submission.insert(
        tx,
        [
            batch_submission.NewRow(
                each.admission.task_id, new.user, new.type, encoded(new.params), new.priority, new.run_after
            )
            for each in accepted
            for new in (each.new,)
        ],
    )
    named = [(each.admission.task_id, each.new.webhook) for each in accepted if each.new.webhook]
    if named:
        doors = {each.admission.task_id: each.new.webhook_door for each in accepted if each.new.webhook_door}
        deliveries.name(tx, named, doors)
    traced = [(each.admission.task_id, each.new.trace) for each in accepted if each.new.trace]
    if traced:
        traces.begin(tx, traced)
    admitted = batch_submission.admit_and_tell(tx, [each.admission for each in accepted])
    stored = {row["id"]: (row["created_at"], row["ready"]) for row in admitted}
    return [_view(each, *stored[each.admission.task_id]) for each in accepted]


def _view(each: _Accepted, created_at: str, ready: int) -> dict[str, Any]:
    """A task that was just admitted, as the store would read it."""
    return task_view(
        {
            "id": each.admission.task_id,
            "work_id": each.admission.work_id,
            "user_openid": each.new.user,
            "type": each.new.type,
            "status": "pending",
            "stage": "queued",
            "progress": 0,
            "attempt": 0,
            "max_attempts": each.admission.max_attempts,
            "error": None,
            "work_images": None,
            "priority": each.new.priority,
            "turn": each.admission.turn,
            "ready": ready,
            "created_at": created_at,
            "processing_started_at": None,
            "finished_at": None,
            "running_for": None,
            "spent": 0.0,
            "due_in": None,
        }
    )


def _images_of(new: NewTask) -> tuple[str, ...]:
    """The uploads that an order names, as far as they can be read before the check."""
    if new.checked is not None:
        return new.checked.image_ids
    images = new.params.get("images")
    return tuple(each for each in images if isinstance(each, str)) if isinstance(images, list) else ()
