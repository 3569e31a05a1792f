"""The errors of a database besides our own faults, under names that do not depend on the driver.

The drivers of both databases raise these (peewee has the same names for SQLite and PostgreSQL).  An error that may pass
by itself becomes the fault `DatabaseBusy` instead.  Only `supervisor.database` and `supervisor.schema` know the
drivers.
"""

from __future__ import annotations

import peewee

DatabaseError = peewee.PeeweeException
"""Any of them."""
IntegrityError = peewee.IntegrityError
"""A constraint or a guard has refused a row."""
DataError = peewee.DataError
"""A value does not fit its column."""
OperationalError = peewee.OperationalError
"""The database can't do its work: its disk, its connection, a lock."""
InterfaceError = peewee.InterfaceError
"""The connection was of no use."""
InternalError = peewee.InternalError
"""The database has given the transaction up, or contradicts itself."""

LOCKED = "55P03"  # PostgreSQL's lock_not_available: lock_timeout is over, or NOWAIT


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's five characters, of a driver's error or one of the above; '' if no server sent any."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def is_locked(error: BaseException) -> bool:
    """Whether a statement has failed because another transaction holds a row that it needs."""
    return sqlstate(error) == LOCKED
