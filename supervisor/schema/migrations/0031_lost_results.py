"""Results of finished steps whose files are gone, and requests that were answered without a picture.

task_step.lost: a file of the step, or of one that it was made from, is gone; a retry makes the step again.
remote_job.without_pictures: the request is done and has made none, as its type makes none.
"""

from supervisor.schema.run_statements import run

_ADDED = (
    "ALTER TABLE task_step ADD COLUMN lost INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE remote_job ADD COLUMN without_pictures INTEGER NOT NULL DEFAULT 0",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns."""
    run(db, sqlite=_ADDED, postgres=_ADDED)
