"""How often in a row a service has answered a question about a remote job with nothing that speaks of the job.

doubt: of which kind those answers were (`supervisor/remote/unclear_answers.py`), doubts: how many, doubted_at: when the
first came.
"""

from supervisor.schema.run_statements import run


def _columns(time: str) -> tuple[str, ...]:
    return (
        "ALTER TABLE remote_job ADD COLUMN doubt TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE remote_job ADD COLUMN doubts INTEGER NOT NULL DEFAULT 0",
        f"ALTER TABLE remote_job ADD COLUMN doubted_at {time}",
    )


SQLITE = _columns("TEXT")
POSTGRES = _columns("timestamptz(3)")


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
