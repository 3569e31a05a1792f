"""Idempotency keys: which task a request with a key has made."""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

SQLITE = (
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

_ID = 'TEXT COLLATE "C"'

POSTGRES = (
    f"""
    CREATE TABLE idempotency_key (
        user_openid {_ID} NOT NULL,
        method {_ID} NOT NULL,
        path {_ID} NOT NULL,
        key {_ID} NOT NULL,
        body_hash {_ID} NOT NULL,
        task_id {_ID} NOT NULL,
        created_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now(),
        PRIMARY KEY (user_openid, method, path, key)
    )""",
    "CREATE INDEX idempotency_key_age ON idempotency_key (created_at)",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
