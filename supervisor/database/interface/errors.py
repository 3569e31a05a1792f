"""What a database raises beside our own faults, by names that say nothing of its driver.

Drivers of both databases raise these (peewee names them alike for SQLite and PostgreSQL); what may pass by itself is
`DatabaseBusy`, a fault, instead.  Only `supervisor.database` and `supervisor.schema` know the drivers.
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
