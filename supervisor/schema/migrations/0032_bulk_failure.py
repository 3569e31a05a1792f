"""Actions on many tasks: how often their runner has failed since their last part, and with what.

An action whose runner fails again and again is stopped with that reason, until somebody resumes it.
"""

from supervisor.schema.run_statements import run

STATEMENTS = (
    "ALTER TABLE bulk_action ADD COLUMN failures INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE bulk_action ADD COLUMN failure TEXT",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns."""
    run(db, sqlite=STATEMENTS, postgres=STATEMENTS)
