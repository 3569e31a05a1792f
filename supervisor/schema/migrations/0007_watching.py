"""Indexes for those who watch: the oldest waiting task of a type, and remote jobs that are overdue.

Without them both would be looked for among all open tasks at every scrape and every round of rescue.  The conditions
are narrow, so that no planner takes these indexes for any other query.
"""

from supervisor.schema.run_statements import run

STATEMENTS = (
    """CREATE INDEX task_queue_fresh ON task_queue (type, created_at)
        WHERE status = 'pending' AND attempt = 0 AND charge = 1 AND run_after IS NULL""",
    """CREATE INDEX task_queue_again ON task_queue (type, created_at)
        WHERE status = 'pending' AND (attempt > 0 OR charge > 1 OR run_after IS NOT NULL)""",
    """CREATE INDEX task_queue_overdue ON task_queue (remote_deadline_at)
        WHERE status = 'ai_processing' AND remote_deadline_at IS NOT NULL""",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create them."""
    run(db, sqlite=STATEMENTS, postgres=STATEMENTS)
