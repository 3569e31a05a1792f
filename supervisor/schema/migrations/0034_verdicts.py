"""What followed from the failure of a remote job, until the others of its attempt are over too.

remote_job.verdict: the attempt, and what follows (`actors/attempts/outcomes.py`); of rows before, nothing is known.
"""

from supervisor.schema.run_statements import run


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the column."""
    run(
        db,
        sqlite=("ALTER TABLE remote_job ADD COLUMN verdict TEXT",),
        postgres=("ALTER TABLE remote_job ADD COLUMN verdict jsonb",),
    )
