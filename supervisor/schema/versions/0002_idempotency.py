"""Idempotency keys: which task a request with a key has made."""

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

STATEMENTS = (
    f"""
    CREATE TABLE idempotency_key (
        user_openid TEXT NOT NULL,
        method TEXT NOT NULL,
        path TEXT NOT NULL,
        key TEXT NOT NULL,
        body_hash TEXT NOT NULL,
        task_id TEXT NOT NULL,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        PRIMARY KEY (user_openid, method, path, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX idempotency_key_age ON idempotency_key (created_at)",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
