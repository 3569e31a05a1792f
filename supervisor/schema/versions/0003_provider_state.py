"""What all hosts must agree on about an AI service: its circuit breaker and its bucket of requests."""

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

STATEMENTS = (
    f"""
    CREATE TABLE provider_state (
        name TEXT PRIMARY KEY NOT NULL,
        breaker TEXT NOT NULL DEFAULT 'closed' CHECK (breaker IN ('closed','open')),
        until TEXT,
        probe_lease INTEGER,
        tokens REAL NOT NULL DEFAULT 0,
        refilled_at TEXT NOT NULL DEFAULT ({NOW})
    ) WITHOUT ROWID""",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
