"""What all hosts must agree on about an AI service: its circuit breaker and its bucket of requests."""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

SQLITE = (
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

POSTGRES = (
    """
    CREATE TABLE provider_state (
        name TEXT COLLATE "C" PRIMARY KEY,
        breaker TEXT NOT NULL DEFAULT 'closed' CHECK (breaker IN ('closed','open')),
        until TIMESTAMPTZ(3),
        probe_lease INTEGER,
        tokens DOUBLE PRECISION NOT NULL DEFAULT 0,
        refilled_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now()
    ) WITH (fillfactor = 50)""",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
