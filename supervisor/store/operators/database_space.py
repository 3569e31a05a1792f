"""Whether the disk of a database server takes anything.

Its free space is nobody's to read.  Where it is full, beats and heartbeats may well go on for hours, since they take
the place of their own old versions, while no order finds room.  So a little is written: a sort with too little memory
goes through a temporary file, which is gone with the query.  The disk of a SQLite file is this host's: `host_state`
looks at it.
"""

from __future__ import annotations

from supervisor.core.errors import DatabaseFull
from supervisor.database.interface.database import Database, Transaction

_SPILLS = """SELECT count(*) FROM
    (SELECT n FROM generate_series(1, 10000) AS numbers(n) ORDER BY 0 - n OFFSET 0) AS sorted"""


def is_full(database: Database) -> bool:
    """Whether the database's server says that its disk is full; False where the database is a file of this host.

    Blocks, for some milliseconds.
    """
    try:
        database.read(_write_a_little)
    except DatabaseFull:
        return True
    return False


def _write_a_little(tx: Transaction) -> None:
    if tx.dialect.name == "postgresql":
        tx.execute("SET LOCAL work_mem = '64kB'")
        tx.execute(_SPILLS)
