"""Whether the database of a server takes anything: its disk may be full, or it may be a standby or locked by its host.

Its free space is nobody's to read.  Where it is full, beats and heartbeats may well go on for hours, since they take
the place of their own old versions, while no order finds room.  So a little is written: a sort with too little memory
goes through a temporary file, which is gone with the query.  The disk of a SQLite file is this host's: `host_state`
looks at it.
"""

from __future__ import annotations

from typing import Literal

from supervisor.core.errors import DatabaseFull
from supervisor.database.interface.database import Database, Transaction

Refusal = Literal["full", "read_only"]

_SPILLS = """SELECT count(*) FROM
    (SELECT n FROM generate_series(1, 10000) AS numbers(n) ORDER BY 0 - n OFFSET 0) AS sorted"""


def refusal(database: Database) -> Refusal | None:
    """Why the database's server takes nothing; None where it does, or where the database is a file of this host.

    Blocks, for some milliseconds.
    """
    try:
        return "read_only" if database.read(_is_read_only) else None
    except DatabaseFull:
        return "full"


def _is_read_only(tx: Transaction) -> bool:
    """Also writes a little.  Raises DatabaseFull."""
    if tx.dialect.name != "postgresql":
        return False
    tx.execute("SET LOCAL work_mem = '64kB'")
    tx.execute(_SPILLS)
    setting = "current_setting('default_transaction_read_only') = 'on'"  # our own reads are read-only anyway
    return bool(tx.value(f"SELECT pg_is_in_recovery() OR {setting}"))
