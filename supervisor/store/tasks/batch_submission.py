"""Many tasks at once: reading the data needed to accept them, storing them and admitting them.

Each step is one statement for all tasks and returns one row, because each statement, and each fetched row, releases and
takes the interpreter's lock once more.

The accounts of all their users are locked first, in the order of the users (CORRECTNESS 27).  While a transaction holds
these locks, balances, turns and open tasks can't change, so they are read once and updated in memory for each task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from supervisor.core.errors import InsufficientCredits, UserBlocked
from supervisor.core.fair_order import turn_of_new_task
from supervisor.core.price import Cost
from supervisor.database.interface.database import Pending, PendingResult, Row, Transaction
from supervisor.schema.tables import OPEN, RUNNING
from supervisor.store.ledger import credits
from supervisor.store.sql.locks import unless_locked
from supervisor.store.sql.rows import decoded, encoded
from supervisor.store.tasks import steps
from supervisor.store.tasks.images import note_use

_MOST_PARAMS = 8192  # bytes; larger params are read by themselves


class NewRow(NamedTuple):
    """The values of a task's INSERT.  params: JSON text; run_after: as text, or None."""

    task_id: str
    user: str
    type: str
    params: str
    priority: int
    run_after: str | None


class Plan(NamedTuple):
    """The steps of a task as they are fixed.  first_step: with which this charge begins.  fixed: as JSON text.

    hashes: of the params of each step before the first one; their results are taken over from earlier charges.
    """

    fixed: str
    first_step: int
    last_step: int
    lane: str
    hashes: tuple[str, ...] = ()


class Admission(NamedTuple):
    """The values of a pending task's admission.  work_id: for a new work, if the task has none.  plan: None for a type
    without steps."""

    task_id: str
    work_id: str
    turn: int
    pictures: int
    max_attempts: int
    expire_seconds: float
    user: str
    charge: int
    cost: Cost
    image_ids: tuple[str, ...] = ()
    plan: Plan | None = None


@dataclasses.dataclass
class Known:
    """The values that were read, updated while tasks are accepted one after another.

    balances: None for an unknown user.  open_tasks: counted up to a limit.  highest: the highest turn of the user's
    open tasks at that priority.  uploads: {(user, id): its media type}, None for a picture.  running: of `RUNNING`, if
    they were counted.  locked: users whose accounts another transaction holds: what was read of them may change.
    """

    balances: dict[str, int | None]
    open_tasks: dict[str, int]
    clocks: dict[int, int]
    highest: dict[tuple[str, int], int | None]
    uploads: dict[tuple[str, str], str | None]
    blocked: frozenset[str]
    running: dict[str, int] = dataclasses.field(default_factory=dict)
    locked: frozenset[str] = frozenset()

    def refuse_blocked(self, user: str) -> None:
        """Raises UserBlocked."""
        if user in self.blocked:
            raise UserBlocked(user)

    def open_account(self, tx: Transaction, user: str) -> None:
        """The balance of an unknown user: a new account opens with its grant."""
        if self.balances[user] is None:
            credits.ensure_account(tx, user)
            self.balances[user] = credits.balance(tx, user)

    def pay(self, user: str, price: int) -> None:
        """Subtract the price from the known balance.  Raises InsufficientCredits."""
        balance = self.balances[user] or 0
        if balance < price:
            raise InsufficientCredits(price, balance)
        self.balances[user] = balance - price

    def take_turn(self, user: str, priority: int) -> int:
        """The turn of the user's next task."""
        line = (user, priority)
        turn = turn_of_new_task(self.clocks[priority], self.highest[line])
        self.highest[line] = turn
        return turn


def known(
    tx: Transaction,
    *,
    lines: Iterable[tuple[str, int]],
    images: Iterable[str] = (),
    count_open_to: int = 0,
    waits: bool = True,
) -> Known:
    """Lock the accounts and read.  lines: (user, priority) of all tasks.  count_open_to: the number at which counting
    may stop.  waits: for accounts that another transaction has locked; otherwise they are left out (`Known.locked`)."""
    lines = sorted(set(lines))
    users = sorted({user for user, _ in lines})
    open_tasks = f"""(SELECT count(*) FROM
        (SELECT 1 FROM task_queue WHERE user_openid = who.value AND {OPEN} LIMIT :count_open_to) AS opened)"""
    asked = _Question(
        tx,
        f"SELECT {_known(tx, ':users', ':lines', ':images', open_tasks)}",
        count_open_to=count_open_to, users=users, lines=lines, images=sorted(set(images)),
    )  # fmt: skip
    (of_users, of_lines, of_uploads), locked = _under_locks(tx, users, asked, waits)
    return Known(
        {user: balance for user, balance, _, _ in of_users},
        {user: count for user, _, _, count in of_users},
        *_of_lines_and_uploads(of_lines, of_uploads),
        _blocked(of_users),
        locked=locked,
    )


def ask_known(tx: Transaction, rows: str, *, counts_running: bool, **named: Any) -> Pending[dict[str, Known]]:
    """The same for rows of tasks that a query finds: {id: what is known for all of them}.

    It is sent together with the query that locks the rows and their accounts, so it names no user; rows that have come
    since are among them, and rows with large params are not.  rows: SQL of id, user_openid, priority and params, with
    the parameters `named`.  counts_running: of each user.
    """
    users = "(SELECT jsonb_agg(DISTINCT user_openid) FROM found)"
    lines = "(SELECT jsonb_agg(DISTINCT jsonb_build_array(user_openid, priority)) FROM found)"
    images = """(SELECT jsonb_agg(DISTINCT said) FROM found, jsonb_path_query(params, 'strict $.**') AS said
        WHERE jsonb_typeof(said) = 'string')"""
    running = f"(SELECT count(*) FROM task_queue WHERE user_openid = who.value AND {RUNNING})"
    asked = tx.ask(
        f"""WITH found AS MATERIALIZED (SELECT * FROM ({rows}) AS rows WHERE pg_column_size(params) <= {_MOST_PARAMS})
        SELECT jsonb_build_array((SELECT jsonb_agg(id) FROM found),
            {_known(tx, users, lines, images, running if counts_running else "0")})""",
        **named,
    )

    def answer() -> dict[str, Known]:
        ids, (of_users, of_lines, of_uploads) = decoded(asked.value())
        known = Known(
            {user: balance for user, balance, _, _ in of_users or ()},
            {},
            *_of_lines_and_uploads(of_lines or (), of_uploads),
            _blocked(of_users or ()),
            {user: count for user, _, _, count in of_users or ()} if counts_running else {},
        )
        return dict.fromkeys(ids or (), known)

    return Pending(answer)


def _known(tx: Transaction, users: str, lines: str, images: str, count: str) -> str:
    """SQL of an array: [user, balance, 1 if blocked, count] of each user, [user, priority, clock, highest turn] of each
    line, and [user, id, media type] of each upload that is kept.

    users, lines, images: SQL of JSON arrays.  count: SQL of a number for the user `who.value`.
    """
    group, array = tx.dialect.json_group, tx.dialect.json_array
    return f"""{array}(
        (SELECT {group}({array}(who.value,
            (SELECT balance FROM account WHERE user_openid = who.value),
            (SELECT 1 FROM account WHERE user_openid = who.value AND blocked_at IS NOT NULL),
            {count}))
         FROM {tx.texts(users)} AS who),
        (SELECT {group}({array}(line.value ->> 0, CAST(line.value ->> 1 AS INTEGER),
            (SELECT turn FROM fair_clock WHERE priority = CAST(line.value ->> 1 AS INTEGER)),
            (SELECT turn FROM task_queue WHERE user_openid = line.value ->> 0
                AND priority = CAST(line.value ->> 1 AS INTEGER)
                AND {OPEN} AND admitted_charge = charge ORDER BY turn DESC LIMIT 1)))
         FROM {tx.rows(lines)} AS line),
        (SELECT {group}({array}(user_openid, id, media_type)) FROM image
            WHERE expired_at IS NULL AND {tx.is_one_of("id", images)}))"""


def _of_lines_and_uploads(
    of_lines: Iterable[Any], of_uploads: Iterable[Any] | None
) -> tuple[dict[int, int], dict[tuple[str, int], int | None], dict[tuple[str, str], str | None]]:
    of_lines = list(of_lines)
    return (
        {priority: clock or 0 for _, priority, clock, _ in of_lines},
        {(user, priority): highest for user, priority, _, highest in of_lines},
        {(user, upload): media_type for user, upload, media_type in of_uploads or ()},
    )


def _blocked(of_users: Iterable[Any]) -> frozenset[str]:
    return frozenset(user for user, _, is_blocked, _ in of_users if is_blocked)


def insert(tx: Transaction, new: Sequence[NewRow]) -> None:
    """Insert the rows."""
    tx.send(
        f"""INSERT INTO task_queue (id, user_openid, type, params, priority, run_after)
            SELECT value ->> 0, value ->> 1, value ->> 2, {tx.as_json("value ->> 3")},
                CAST(value ->> 4 AS INTEGER), {tx.as_time("value ->> 5")} FROM {tx.rows(":new")} AS new""",
        new=encoded(new),
    )


def admit(tx: Transaction, admissions: Sequence[Admission]) -> None:
    """Take the prices, make the works, fix the turns.

    The ledger's guard refuses a second debit and an overdrawn account.
    """
    _take_prices(tx, admissions)
    statement, rows = _admission(tx, admissions)
    tx.send(statement, admissions=rows)


def admit_and_tell(tx: Transaction, admissions: Sequence[Admission]) -> list[Row]:
    """The same; (id, created_at, ready) of each task, in no order."""
    _take_prices(tx, admissions)
    statement, rows = _admission(tx, admissions)
    told = f"RETURNING task_queue.id, {tx.as_text('created_at')} AS created_at, ready"
    return tx.all(f"{statement} {told}", admissions=rows)


def _take_prices(tx: Transaction, admissions: Sequence[Admission]) -> None:
    """Write the debits, which uploads the tasks name, and which results of earlier charges they take over."""
    debits = [
        (each.user, each.task_id, each.charge, -each.cost.credits, *each.cost.parts)
        for each in admissions
        if each.cost.credits
    ]
    if debits:
        tx.send(
            f"""INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount, base, per, units)
                SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS INTEGER), 'debit', CAST(value ->> 3 AS INTEGER),
                    CAST(value ->> 4 AS INTEGER), value ->> 5, CAST(value ->> 6 AS DOUBLE PRECISION)
                FROM {tx.rows(":debits")} AS taken""",
            debits=encoded(debits),
        )
    note_use(tx, [(image, each.task_id) for each in admissions for image in each.image_ids])
    for each in admissions:
        if each.plan is not None and each.plan.hashes:
            steps.take_over(tx, each.task_id, each.charge, each.plan.hashes)


def _admission(tx: Transaction, admissions: Sequence[Admission]) -> tuple[str, str]:
    """The statement that makes the works and fixes the turns, and its parameter `:admissions`."""
    # A task that was ordered for a later time is not late before that time.
    soonest = tx.greatest(tx.moment, f"coalesce(run_after, {tx.moment})")
    expires_at = tx.shifted(soonest, "CAST(made.value ->> 5 AS DOUBLE PRECISION)")
    planned = (
        f""", steps = {tx.as_json("made.value ->> 6")}, step = coalesce(CAST(made.value ->> 7 AS INTEGER), 0),
            first_step = coalesce(CAST(made.value ->> 7 AS INTEGER), 0),
            last_step = coalesce(CAST(made.value ->> 8 AS INTEGER), 0), lane = coalesce(made.value ->> 9, '')"""
        if any(each.plan is not None for each in admissions)
        else ""
    )
    return (
        f"""UPDATE task_queue SET admitted_charge = charge, work_id = coalesce(work_id, made.value ->> 1),
            turn = CAST(made.value ->> 2 AS INTEGER),
            ready = CASE WHEN run_after IS NULL OR run_after <= {tx.moment} THEN 1 ELSE 0 END,
            picture_count = CAST(made.value ->> 3 AS INTEGER), max_attempts = CAST(made.value ->> 4 AS INTEGER),
            expires_at = {expires_at}, updated_at = {tx.moment}{planned}
        FROM {tx.rows(":admissions")} AS made WHERE task_queue.id = made.value ->> 0""",
        encoded([(*each[:6], *(each.plan or ())[:4]) for each in admissions]),
    )


class _Question:
    """A query that returns its rows as one JSON array."""

    def __init__(self, tx: Transaction, sql: str, **params: Any) -> None:
        self._tx, self._sql = tx, sql
        self._params = {
            name: encoded(each) if isinstance(each, list) else each for name, each in params.items()
        }

    def ask(self) -> PendingResult:
        return self._tx.ask(self._sql, **self._params)


def _under_locks(
    tx: Transaction, users: list[str], question: _Question, waits: bool
) -> tuple[Any, frozenset[str]]:
    """The answer, with the accounts of these users locked, and the users whose accounts another transaction holds.

    Missing accounts are opened before any is locked.
    """
    if not tx.for_update:
        return decoded(question.ask().value()), frozenset()
    # Lock all accounts or none: an account that is opened later would be locked out of order.
    is_ours = tx.is_one_of("user_openid", ":users")
    lock = f"""SELECT user_openid FROM account
        WHERE {is_ours} AND (SELECT count(*) FROM account WHERE {is_ours}) = :count
        ORDER BY user_openid{tx.for_update if waits else tx.for_update_of_free("account")}"""

    def ask(those: list[str]) -> tuple[Any, frozenset[str]]:
        locking, asked = tx.ask(lock, users=encoded(those), count=len(those)), question.ask()
        ours = {row["user_openid"] for row in locking.all()}
        return decoded(asked.value()), frozenset(users) - ours

    answer, others = ask(users)
    missing = sorted(user for user, balance, _, _ in answer[0] if balance is None) if others else []
    if missing or (others and waits):
        unopened = {user for user in missing if not _is_opened(tx, user, waits)}
        answer, others = ask([user for user in users if user not in unopened])
    return answer, frozenset() if waits else others


def _is_opened(tx: Transaction, user: str, waits: bool) -> bool:
    """Open an account; False if another transaction is just opening it, and it is not waited for."""
    if waits:
        credits.ensure_account(tx, user)
        return True
    return unless_locked(tx, lambda: credits.ensure_account(tx, user))
