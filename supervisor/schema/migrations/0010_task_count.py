"""The number of open tasks of each type and status, so that no query counts rows.

Triggers keep the numbers, and the numbers are counted anew whenever triggers are made (`supervisor.schema`), so there
is nothing to fill in here.  On PostgreSQL a number that many writers move would make them wait for each other: they
append to task_count_delta, which the working dispatcher folds into task_count.
"""

from supervisor.schema.run_statements import run

SQLITE = (
    """
    CREATE TABLE task_count (
        type TEXT NOT NULL,
        status TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (type, status)
    ) WITHOUT ROWID""",
)

_BUSY = "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500"

POSTGRES = (
    f"""
    CREATE TABLE task_count (
        type TEXT COLLATE "C" NOT NULL,
        status TEXT COLLATE "C" NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (type, status)
    ) WITH (fillfactor = 10, {_BUSY})""",
    f"""
    CREATE TABLE task_count_delta (
        type TEXT COLLATE "C" NOT NULL,
        status TEXT COLLATE "C" NOT NULL,
        n INTEGER NOT NULL
    ) WITH ({_BUSY}, autovacuum_vacuum_insert_scale_factor = 0.05)""",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the tables."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
