"""The meaning of PostgreSQL's errors for the caller of a step: connection lost, try again, or raise."""

from __future__ import annotations

import peewee
import psycopg

from supervisor.core.errors import DatabaseBusy, DatabaseFull, RowsLocked
from supervisor.database.interface.errors import LOCKED, sqlstate

NAMED_ERRORS = peewee.__exception_wrapper__  # type: ignore[attr-defined]
"""`with` this, psycopg's errors are raised under the names of `supervisor.database.interface.errors`."""

# The transaction is rolled back and may well succeed the next time: serialization_failure, deadlock_detected.
_AGAIN = frozenset({"40001", "40P01"})
DISK_FULL = "53100"
GIVEN_UP = "25P02"  # the transaction takes no more statements: one of them has failed
# The connection is unusable: the server shut down, crashed, is starting or is a standby, or the connection idled too
# long, or a plan was prepared before a migration changed its columns (none of our statements is otherwise
# feature_not_supported).
_LOST = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25006", "53300", "0A000"})
_LOST_CLASSES = ("08",)

# Errors that may pass by themselves or that a person can remove, with a sentence for that person.
_NOT_NOW = {
    "57014": "The database took too long over a statement; nothing was stored.  Another program may hold its rows.",
    LOCKED: "The database's rows were locked by another program for too long; nothing was stored.",
    DISK_FULL: "The disk that holds the database is full; nothing was stored.  Free some space.",
    "53200": "The database server has no memory left; nothing was stored.",
    "25006": "The database takes no writes (a standby, or read-only); nothing was stored.",
}

_FAULTS = {DISK_FULL: DatabaseFull, LOCKED: RowsLocked}


def is_to_be_tried_again(error: BaseException) -> bool:
    """The whole transaction may be run again at once."""
    return sqlstate(error) in _AGAIN


def is_of_a_lost_connection(error: BaseException) -> bool:
    """Whether the server said so, or nothing any more."""
    state = sqlstate(error)
    if not state:
        return isinstance(getattr(error, "orig", error), psycopg.OperationalError)
    return state in _LOST or state.startswith(_LOST_CLASSES)


def as_fault(error: BaseException) -> BaseException:
    """DatabaseBusy for an error that may pass; any other error unchanged."""
    state = sqlstate(error)
    sentence = _NOT_NOW.get(state)
    if sentence is None or not isinstance(error, peewee.PeeweeException):
        return error
    fault = _FAULTS.get(state, DatabaseBusy)(sentence)
    fault.__cause__ = error
    if isinstance(fault, RowsLocked):
        fault.row = _row_of(error)
    return fault


def _row_of(error: BaseException) -> str:
    """The row at whose lock a statement waited: the first line of what the server says of the place."""
    diagnosis = getattr(getattr(error, "orig", error), "diag", None)
    return str(getattr(diagnosis, "context", None) or "").partition("\n")[0]
