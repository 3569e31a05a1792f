"""What a worker process offers to types that need it, and which types it takes.

worker.offers: {name: amount} as JSON.  worker.types: JSON list of the only types that it takes, NULL for all.
"""

from supervisor.schema.run_statements import run

STATEMENTS = (
    "ALTER TABLE worker ADD COLUMN offers TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE worker ADD COLUMN types TEXT",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns."""
    run(db, sqlite=STATEMENTS, postgres=STATEMENTS)
