"""One bad row is one bad row (CORRECTNESS 45): a batch is done together, and without those that the database refuses.

Nobody knows beforehand which row that will be: it may be a constraint that somebody has added, a row of a table of
theirs that names it, or an old row that stands in the way of a trigger.  So a batch that was refused is taken back to
its savepoint and done in halves, until what is refused is one row alone.  That one is left as it was, and named.

What concerns no row (a server that is away, a full disk, a table that is missing) is raised as ever.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from supervisor.database.interface.database import Row, Transaction
from supervisor.database.interface.errors import DatabaseError, DataError, IntegrityError
from supervisor.store.sql.rows import encoded

R = TypeVar("R")
T = TypeVar("T")

# Classes of SQLSTATE: cardinality violation, data exception, integrity constraint violation, WITH CHECK OPTION
# violation, program limit exceeded, and what a trigger of somebody else's raises.
_ABOUT_A_ROW = ("21", "22", "23", "44", "54", "P0")
_ABOUT_A_VALUE_ON_SQLITE = ("malformed JSON", "integer overflow")


@dataclasses.dataclass(frozen=True)
class Refused:
    """A row that the database would not let change.  what: its kind and id; reason: what the database said."""

    what: str
    row_id: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Aside:
    """What a batch leaves alone.  passing: ids of rows that were refused a while ago; refused: takes those of now.

    is_careful: batches that hardly ever meet such a row are done apart as well, which costs a savepoint each.
    """

    passing: Collection[str] = ()
    refused: list[Refused] = dataclasses.field(default_factory=list)
    is_careful: bool = False

    def others(self, tx: Transaction, column: str) -> tuple[str, dict[str, str]]:
        """The condition that a row is none of those passing, and its parameters by name.  column: of the id."""
        if not self.passing:
            return "1 = 1", {}
        return f"CAST({column} AS TEXT) NOT IN {tx.each_of(':passing')}", {
            "passing": encoded(sorted(self.passing))
        }


def is_about_a_row(error: BaseException) -> bool:
    """Whether an error of the database is a refusal of what a row would become, and not of everybody's work."""
    if isinstance(error, IntegrityError | DataError):
        return True
    if not isinstance(error, DatabaseError):
        return False
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return state.startswith(_ABOUT_A_ROW) or any(said in str(error) for said in _ABOUT_A_VALUE_ON_SQLITE)


def apart(
    tx: Transaction,
    what: str,
    rows: Sequence[R],
    row_id: Callable[[R], str],
    do: Callable[[Sequence[R]], Sequence[T]],
    *,
    unreadable: tuple[type[Exception], ...] = (),
) -> tuple[list[T], list[Refused]]:
    """What `do` made of the rows, and the rows that were refused, of which nothing is changed.

    what: the rows' kind in a word.  do: is called again with fewer rows when it was refused.
    unreadable: errors of ours that say that a row holds what can't be read.
    """
    if not rows:
        return [], []
    tx.send("SAVEPOINT apart")
    try:
        done = list(do(rows))
        tx.execute("RELEASE SAVEPOINT apart")  # by now every statement that was only sent has been heard of
        return done, []
    except Exception as error:
        if not (is_about_a_row(error) or isinstance(error, unreadable)):
            raise
        cause = error
    tx.execute("ROLLBACK TO SAVEPOINT apart")
    tx.execute("RELEASE SAVEPOINT apart")
    if len(rows) == 1:
        return [], [refusal(what, row_id(rows[0]), cause)]
    half = len(rows) // 2
    first, refused = apart(tx, what, rows[:half], row_id, do, unreadable=unreadable)
    second, more = apart(tx, what, rows[half:], row_id, do, unreadable=unreadable)
    return first + second, refused + more


def done_apart(
    tx: Transaction, what: str, ids: Sequence[str], do: Callable[[Sequence[str]], Sequence[T]], aside: Aside
) -> list[T]:
    """What `do` made of the rows of these ids; where care is asked for, without those that are refused."""
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
    """Delete these rows of a table by their `id`, without those that are refused; how many went.

    before: is given the ids of a part as a JSON array, to delete what belongs to them.
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


def id_of(row: Row) -> str:
    """The `id` of a row, as a refusal names it."""
    return str(row["id"])


def refusal(what: str, row_id: str, error: Exception) -> Refused:
    """The refusal that an error was, with the first line of what the database said."""
    return Refused(what, row_id, (str(error).splitlines() or [type(error).__name__])[0])
