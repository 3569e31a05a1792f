"""The W3C trace context of a task that is traced (`traceparent`): what its spans in every process belong to."""

from supervisor.schema.run_statements import run


def _table(text: str) -> tuple[str, ...]:
    return (f"CREATE TABLE task_trace (task_id {text} PRIMARY KEY, context TEXT NOT NULL)",)


SQLITE = _table("TEXT")
POSTGRES = _table('TEXT COLLATE "C"')


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
