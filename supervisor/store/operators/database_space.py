"""Whether a database server accepts writes: its disk may be full, or it may be a standby or locked by its host.

The server does not report its free space.  When its disk is full, beats and heartbeats may go on for hours, since they
replace their own old versions, while orders find no room.  So this module makes the server write a little: a sort with
too little memory uses a temporary file, which is deleted with the query.  A SQLite file is on this host's disk, which
`host_state` examines.
"""

from __future__ import annotations

from typing import Literal

from supervisor.core.errors import DatabaseFull
from supervisor.database.interface.database import Database, Transaction

Refusal = Literal["full", "read_only"]

_SPILLS = """SELECT count(*) FROM
    (SELECT n FROM generate_series(1, 10000) AS numbers(n) ORDER BY 0 - n OFFSET 0) AS sorted"""


def refusal(database: Database) -> Refusal | None:
    """Why the database server accepts no writes; None if it does, or if the database is a file of this host.

    Blocks, for some milliseconds.
    """
    try:
        return "read_only" if database.read(_is_read_only) else None
    except DatabaseFull:
        return "full"


def _is_read_only(tx: Transaction) -> bool:
    """Makes the server write a little.  Raises DatabaseFull."""
    if tx.dialect.name != "postgresql":
        return False
    tx.execute("SET LOCAL work_mem = '64kB'")
    tx.execute(_SPILLS)
    setting = "current_setting('default_transaction_read_only') = 'on'"  # our own reads are read-only anyway
    return bool(tx.value(f"SELECT pg_is_in_recovery() OR {setting}"))
