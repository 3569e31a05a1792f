"""One bad row stops only itself (CORRECTNESS 45): a batch is done without the rows that the database refuses.

It is unknown beforehand which row that will be: the cause may be a constraint or a table that the owner has added, or
an old row that makes a trigger fail.  So a refused batch is rolled back to its savepoint and done in halves, until a
single row is refused.  That row stays unchanged, and the log names it.

A row that another transaction has locked is left alone in the same way, since that transaction may take hours.

Errors that concern no row (a server that is away, a full disk, a missing table) are raised.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from supervisor.core.errors import Fault
from supervisor.database.interface.database import Row, Transaction
from supervisor.database.interface.errors import (
    DatabaseError,
    DataError,
    IntegrityError,
    is_locked,
    sqlstate,
)
from supervisor.store.sql.locks import wait_no_longer
from supervisor.store.sql.rows import encoded

R = TypeVar("R")
T = TypeVar("T")

# Classes of SQLSTATE: cardinality violation, data exception, integrity constraint violation, WITH CHECK OPTION
# violation, program limit exceeded, and errors that the owner's own triggers raise.
_ABOUT_A_ROW = ("21", "22", "23", "44", "54", "P0")
_ABOUT_A_VALUE_ON_SQLITE = ("malformed JSON", "integer overflow")
_LOCKED = "rows_locked"


@dataclasses.dataclass(frozen=True)
class Refused:
    """A row that the database refused to change.  what: its kind and id; reason: the database's message.

    kind: of the reason, in snake_case: the same for all rows, whatever the message names.  is_locked: it was not
    refused, and may be free in a moment.
    """

    what: str
    row_id: str
    reason: str
    kind: str = "database"

    @property
    def is_locked(self) -> bool:
        return self.kind == _LOCKED


@dataclasses.dataclass(frozen=True)
class Aside:
    """The rows that a batch leaves alone.  passing: ids of rows refused earlier; refused: collects new refusals.

    is_careful: use a savepoint also for batches that are hardly ever refused; it costs time for each batch.
    """

    passing: Collection[str] = ()
    refused: list[Refused] = dataclasses.field(default_factory=list)
    is_careful: bool = False

    def others(self, tx: Transaction, column: str) -> tuple[str, dict[str, str]]:
        """The condition that a row is not in `passing`, and its parameters by name.  column: of the id."""
        if not self.passing:
            return "1 = 1", {}
        is_passing = tx.is_one_of(f"CAST({column} AS TEXT)", ":passing")
        return f"NOT {is_passing}", {"passing": encoded(sorted(self.passing))}


def is_about_a_row(error: BaseException) -> bool:
    """Whether a database error refuses one row's change, and is not a fault of the whole database."""
    if isinstance(error, IntegrityError | DataError):
        return True
    if not isinstance(error, DatabaseError):
        return False
    return sqlstate(error).startswith(_ABOUT_A_ROW) or any(
        said in str(error) for said in _ABOUT_A_VALUE_ON_SQLITE
    )


def apart(
    tx: Transaction,
    what: str,
    rows: Sequence[R],
    row_id: Callable[[R], str],
    do: Callable[[Sequence[R]], Sequence[T]],
    *,
    unreadable: tuple[type[Exception], ...] = (),
    waits: bool = False,
) -> tuple[list[T], list[Refused]]:
    """The results of `do`, and the refused rows, which stay unchanged.

    what: the kind of the rows, one word.  do: is called again with fewer rows after a refusal.
    unreadable: our own errors for a row with unreadable content.  waits: for rows that other transactions have locked;
    otherwise they are left alone as if they were refused.
    """
    if not rows:
        return [], []
    tx.send("SAVEPOINT apart")
    try:
        done = list(do(rows))
        tx.execute("RELEASE SAVEPOINT apart")  # by now every statement that was only sent has been answered
        return done, []
    except Exception as error:
        is_left_alone = is_locked(error) and not waits
        if not (is_left_alone or is_about_a_row(error) or isinstance(error, unreadable)):
            raise
        why = refusal(what, row_id(rows[0]), error)
    tx.execute("ROLLBACK TO SAVEPOINT apart")
    tx.execute("RELEASE SAVEPOINT apart")
    if len(rows) == 1:
        return [], [why]
    if why.is_locked:
        wait_no_longer(tx)
    half = len(rows) // 2
    first, refused = apart(tx, what, rows[:half], row_id, do, unreadable=unreadable, waits=waits)
    second, more = apart(tx, what, rows[half:], row_id, do, unreadable=unreadable, waits=waits)
    return first + second, refused + more


def done_apart(
    tx: Transaction, what: str, ids: Sequence[str], do: Callable[[Sequence[str]], Sequence[T]], aside: Aside
) -> list[T]:
    """The results of `do` for the rows with these ids; if `aside` is careful, without refused rows."""
    if not ids:
        return []
    if not aside.is_careful:
        return list(do(ids))
    done, refused = apart(tx, what, ids, str, do)
    aside.refused.extend(refused)
    return done


def delete_apart(
    tx: Transaction,
    table: str,
    found: Sequence[Row],
    aside: Aside,
    *,
    before: Callable[[str], Any] | None = None,
) -> int:
    """Delete these rows of a table by their `id`, except refused ones; how many were deleted.

    before: is called with the ids of a part as a JSON array, to delete dependent rows.
    """
    type_ = "TEXT" if found and isinstance(found[0]["id"], str) else "BIGINT"

    def delete(rows: Sequence[Row]) -> list[Row]:
        ids = encoded([str(row["id"]) for row in rows])
        if before is not None:
            before(ids)
        tx.execute(
            f"DELETE FROM {table} WHERE id IN (SELECT CAST(value AS {type_}) FROM {tx.texts(':ids')} AS old)",
            ids=ids,
        )
        return list(rows)

    gone, refused = apart(tx, table, found, id_of, delete)
    aside.refused.extend(refused)
    return len(gone)


def delete_oldest(
    tx: Transaction,
    table: str,
    time: str,
    older_than_seconds: float,
    most: int,
    aside: Aside | None = None,
    *,
    only: str = "1 = 1",
) -> int:
    """Delete the oldest rows of a table whose ids follow time, so only its first rows are read; how many went.

    time: the column that says how old a row is.  only: a condition on such a row, which is called `oldest`; rows that
    do not meet it stay, and hold up those behind them.
    """
    aside = aside or Aside()
    others, left_alone = aside.others(tx, "id")
    found = tx.all(
        f"""SELECT id FROM (SELECT * FROM {table} WHERE {others} ORDER BY id LIMIT :most) AS oldest
            WHERE oldest.{time} < {tx.ago(":older_than_seconds")} AND {only}""",
        **left_alone, most=most, older_than_seconds=older_than_seconds,
    )  # fmt: skip
    return delete_apart(tx, table, found, aside)


def id_of(row: Row) -> str:
    """The `id` of a row, as a refusal names it."""
    return str(row["id"])


def refusal(what: str, row_id: str, error: Exception) -> Refused:
    """The refusal for an error, with the first line of the database's message."""
    if is_locked(error):
        return Refused(what, row_id, "another program has locked it", _LOCKED)
    name = type(error).__name__
    kind = re.sub("(?<!^)(?=[A-Z])", "_", name).lower() if isinstance(error, Fault) else "database"
    return Refused(what, row_id, (str(error).splitlines() or [name])[0], kind)
