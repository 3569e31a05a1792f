"""What must be known before a verdict by the clock: whether we ourselves were well, and what services were asked.

dispatcher: when the working one last ticked, and since when it has done so without a gap, a stepped clock or an outage.
task_queue, of a remote job: when its service was asked last; of that time in which we were well, the first question
and how many there were; when the question was asked that was answered last.
provider_state: when its breaker was moved, so that `until` is known for what it is after the clock was set back.
"""

from supervisor.schema.run_statements import run


def _columns(time: str) -> tuple[str, ...]:
    return (
        f"ALTER TABLE dispatcher ADD COLUMN ticked_at {time}",
        f"ALTER TABLE dispatcher ADD COLUMN well_since {time}",
        f"ALTER TABLE task_queue ADD COLUMN asked_at {time}",
        f"ALTER TABLE task_queue ADD COLUMN asked_since {time}",
        "ALTER TABLE task_queue ADD COLUMN questions INTEGER NOT NULL DEFAULT 0",
        f"ALTER TABLE task_queue ADD COLUMN answered_at {time}",
        f"ALTER TABLE provider_state ADD COLUMN moved_at {time}",
    )


SQLITE = _columns("TEXT")
POSTGRES = _columns("timestamptz(3)")


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
