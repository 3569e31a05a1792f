"""Submit many tasks in one go: one statement a step for all of them, instead of several for each.

A web process under load has dozens of submissions waiting for its writer.  Statement by statement each of them costs
as much in handing the interpreter's lock to and fro as in SQLite itself; together they cost one INSERT, one debit and
one admission.  A single submission is a crowd of one and takes the same way.

What one of them asks wrongly is an outcome, not an exception, and concerns nobody else: limits, credits and images
are read once at the beginning (this transaction is the only writer) and carried forward order by order.  Should the
database refuse the crowd all the same, its members are tried one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import peewee

from config.settings import Settings
from supervisor.database import Transaction
from supervisor.fair_order import turn_of_new_task
from supervisor.faults import BadParams, Fault, InsufficientCredits, KeyReused, QueueFull, TooManyOpenTasks
from supervisor.ids import new_ulid
from supervisor.store import admission, credits, idempotency
from supervisor.store.orders import NewTask
from supervisor.store.places import count_pending
from supervisor.store.rows import decoded, encoded, task_view
from supervisor.task_params import check_params

_OPEN = "status IN ('pending','processing','ai_processing')"

# How long a refused producer is told to wait.  A slot of the queue frees with every task that starts.
RETRY_AFTER_OPEN_SECONDS = 10
RETRY_AFTER_FULL_SECONDS = 30


# One statement, one row: each statement, and each row fetched, would hand the interpreter's lock over once more.
_KNOWN = f"""SELECT json_array(
    (SELECT json_group_array(json_array(who.value,
        (SELECT balance FROM account WHERE user_openid = who.value),
        (SELECT count(*) FROM (SELECT 1 FROM task_queue WHERE user_openid = who.value AND {_OPEN} LIMIT ?))))
     FROM json_each(?) AS who),
    (SELECT json_group_array(json_array(line.value ->> 0, line.value ->> 1,
        (SELECT turn FROM fair_clock WHERE priority = line.value ->> 1),
        (SELECT turn FROM task_queue WHERE user_openid = line.value ->> 0 AND priority = line.value ->> 1
            AND {_OPEN} AND admitted_charge = charge ORDER BY turn DESC LIMIT 1)))
     FROM json_each(?) AS line),
    (SELECT json_group_array(json_array(user_openid, id)) FROM image
        WHERE id IN (SELECT value FROM json_each(?))))"""


class Submitted(NamedTuple):
    """A submission's task as its view.  is_replay: an earlier request with the same key has made it."""

    view: dict[str, Any]
    is_replay: bool


class _Accepted(NamedTuple):
    """An order that will be stored."""

    new: NewTask
    task_id: str
    work_id: str
    turn: int
    pictures: int
    price: int


Outcome = Submitted | Exception


def submit_many(
    tx: Transaction, settings: Settings, orders: Sequence[NewTask], *, pending: int | None = None
) -> list[Outcome]:
    """Insert and admit tasks; one outcome for each order, in their order.

    pending: how many tasks wait, by a reading of this second (CORRECTNESS 11); None counts them here.
    An order that is refused has one of BadParams, InsufficientCredits, TooManyOpenTasks, QueueFull, KeyReused as its
    outcome, or IntegrityError where the database itself refuses it, and stores nothing.
    """
    tx.execute("SAVEPOINT submission")
    try:
        outcomes = _submit_together(tx, settings, orders, pending)
    except peewee.IntegrityError as error:  # one of them can't be stored, and which is not known
        tx.execute("ROLLBACK TO submission")
        if len(orders) == 1:
            outcomes = [error]
        else:
            outcomes = [submit_many(tx, settings, [each], pending=pending)[0] for each in orders]
    tx.execute("RELEASE submission")
    return outcomes


def _submit_together(
    tx: Transaction, settings: Settings, orders: Sequence[NewTask], pending: int | None
) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    accepted: dict[int, _Accepted] = {}
    twins: dict[int, int] = {}  # of an order, the earlier one in this crowd with the same key
    by_key: dict[tuple[str, ...], int] = {}
    desk = _Desk(tx, settings, orders, pending)
    ids = sorted(new_ulid() for _ in orders)  # made in one moment, they sort as the orders came
    for n, new in enumerate(orders):
        try:
            if new.key is not None:
                first = by_key.setdefault(new.key.place, n)
                if first != n:
                    if orders[first].key != new.key:
                        raise KeyReused
                    twins[n] = first
                    continue
                known = idempotency.task_of(tx, new.key)
                if known is not None:
                    outcomes[n] = Submitted(known, True)
                    continue
            accepted[n] = desk.accept(new, ids[n])
        except Fault as fault:
            outcomes[n] = fault
    if accepted:
        for n, view in zip(accepted, _store(tx, settings, list(accepted.values())), strict=True):
            outcomes[n] = Submitted(view, False)
            key = orders[n].key
            if key is not None:
                idempotency.keep(tx, key, view["task_id"])
    for n, first in twins.items():
        outcome = outcomes[first]
        outcomes[n] = Submitted(outcome.view, True) if isinstance(outcome, Submitted) else outcome
    return [outcomes[n] for n in range(len(orders))]


class _Desk:
    """What must be known to accept orders, read once, and kept true while they are accepted one after another."""

    def __init__(
        self, tx: Transaction, settings: Settings, orders: Sequence[NewTask], pending: int | None
    ) -> None:
        self._tx, self._settings = tx, settings
        self._limit = settings.limits.open_tasks_per_user
        users, lines, images = _rows_in_one(
            tx, _KNOWN, self._limit,
            sorted({new.user for new in orders}),
            sorted({(new.user, new.priority) for new in orders}),
            sorted({image for new in orders for image in _images_of(new)}),
        )  # fmt: skip
        self._balances = {user: balance for user, balance, _ in users}
        self._open = {user: count for user, _, count in users}
        self._clocks = {priority: clock or 0 for _, priority, clock, _ in lines}
        self._highest = {(user, priority): highest for user, priority, _, highest in lines}
        self._images = {(user, image) for user, image in images}
        self._pending = 0
        if settings.limits.pending_tasks:
            self._pending = count_pending(tx) if pending is None else pending

    def accept(self, new: NewTask, fresh_id: str) -> _Accepted:
        """The order as it will be stored.  Raises a Fault."""
        limits = self._settings.limits
        if self._limit and self._open[new.user] >= self._limit:
            raise TooManyOpenTasks(self._limit, RETRY_AFTER_OPEN_SECONDS)
        if limits.pending_tasks and self._pending >= limits.pending_tasks:
            raise QueueFull(limits.pending_tasks, RETRY_AFTER_FULL_SECONDS)
        checked = new.checked or check_params(new.type, new.params, self._settings)
        for image in checked.image_ids:
            if (new.user, image) not in self._images:
                raise BadParams(f"There is no image {image}.", code="image_not_found")
        price = admission.price_of(self._settings, new.type, checked.count)
        if price:
            balance = self._balance(new.user)
            if balance < price:
                raise InsufficientCredits(price, balance)
            self._balances[new.user] = balance - price
        self._open[new.user] += 1
        self._pending += 1
        line = (new.user, new.priority)
        self._highest[line] = turn_of_new_task(self._clocks[new.priority], self._highest[line])
        return _Accepted(new, new.task_id or fresh_id, new_ulid(), self._highest[line], checked.count, price)

    def _balance(self, user: str) -> int:
        if self._balances[user] is None:  # never seen: the account opens with its grant
            credits.ensure_account(self._tx, user)
            self._balances[user] = credits.balance(self._tx, user)
        return int(self._balances[user])


def _store(tx: Transaction, settings: Settings, accepted: list[_Accepted]) -> list[dict[str, Any]]:
    """Insert, debit, admit; the views, in order."""
    tx.execute(
        """INSERT INTO task_queue (id, user_openid, type, params, priority, run_after)
            SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each(?)""",
        encoded(
            [
                (each.task_id, new.user, new.type, encoded(new.params), new.priority, new.run_after)
                for each in accepted
                for new in (each.new,)
            ]
        ),
    )
    debits = [(each.new.user, each.task_id, -each.price) for each in accepted if each.price]
    if debits:
        tx.execute(
            """INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount)
                SELECT value ->> 0, value ->> 1, 1, 'debit', value ->> 2 FROM json_each(?)""",
            encoded(debits),
        )
    admitted = []
    for each in accepted:
        type_ = settings.tasks[each.new.type]
        admitted.append(
            (each.task_id, each.work_id, each.turn, each.pictures, type_.max_attempts, type_.expire_seconds)
        )
    tx.execute(
        f"""UPDATE task_queue SET admitted_charge = charge, work_id = made.value ->> 1, turn = made.value ->> 2,
            ready = (run_after IS NULL OR run_after <= {tx.now}), picture_count = made.value ->> 3,
            max_attempts = made.value ->> 4, expires_at = {admission.expiry(tx, "made.value ->> 5")},
            updated_at = {tx.now}
        FROM json_each(?) AS made WHERE task_queue.id = made.value ->> 0""",
        encoded(admitted),
    )
    stored = {
        task_id: (created_at, ready)
        for task_id, created_at, ready in _rows_in_one(
            tx,
            """SELECT json_group_array(json_array(id, created_at, ready)) FROM task_queue
                WHERE id IN (SELECT value FROM json_each(?)) AND status = 'pending' AND admitted_charge = charge""",
            [each.task_id for each in accepted],
        )
    }
    return [_view(settings, each, *stored[each.task_id]) for each in accepted]


def _view(settings: Settings, each: _Accepted, created_at: str, ready: int) -> dict[str, Any]:
    """A task that was admitted a moment ago, as the store would read it."""
    return task_view(
        {
            "id": each.task_id,
            "work_id": each.work_id,
            "user_openid": each.new.user,
            "type": each.new.type,
            "status": "pending",
            "stage": "queued",
            "progress": 0,
            "attempt": 0,
            "max_attempts": settings.tasks[each.new.type].max_attempts,
            "error": None,
            "work_images": None,
            "priority": each.new.priority,
            "turn": each.turn,
            "ready": ready,
            "dispatched_at": None,
            "created_at": created_at,
            "processing_started_at": None,
            "finished_at": None,
            "running_for": None,
        }
    )


def _images_of(new: NewTask) -> tuple[str, ...]:
    """The uploads an order names, as far as it can be read before it is checked."""
    if new.checked is not None:
        return new.checked.image_ids
    images = new.params.get("images")
    return tuple(each for each in images if isinstance(each, str)) if isinstance(images, list) else ()


def _rows_in_one(tx: Transaction, sql: str, *params: Any) -> list[Any]:
    """The rows of a query that returns them as one JSON array."""
    given = [encoded(each) if isinstance(each, list) else each for each in params]
    rows: list[Any] = decoded(tx.value(sql, *given))
    return rows
