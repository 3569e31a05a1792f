"""The tasks that count for a user's limit, found without reading all that the user has waiting."""

from supervisor.schema.run_statements import run

STATEMENTS = (
    """CREATE INDEX task_queue_running ON task_queue (user_openid)
        WHERE status IN ('pending','processing','ai_processing') AND (status <> 'pending' OR step > first_step)""",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the index."""
    run(db, sqlite=STATEMENTS, postgres=STATEMENTS)
