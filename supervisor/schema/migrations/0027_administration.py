"""Who acted, in which role, on users too; and users who are blocked.

audit: role is NULL in rows of earlier releases; bulk_id is the action on many tasks that a row is a part of.  SQLite
can't change a CHECK, so the table is made anew there, with its rows and with the last id that it gave.
account: blocked_at is NULL unless the user is blocked.
"""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

_TARGETS = "('task','worker','type','provider','sweep','user','token','bulk')"

SQLITE = (
    f"""
    CREATE TABLE audit_with_role (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL DEFAULT ({NOW}),
        operator TEXT NOT NULL,
        action TEXT NOT NULL,
        kind TEXT NOT NULL CONSTRAINT what_is_acted_on_is_known CHECK (kind IN {_TARGETS}),
        target TEXT NOT NULL,
        before TEXT,
        after TEXT,
        role TEXT,
        bulk_id TEXT
    )""",
    """INSERT INTO audit_with_role (id, at, operator, action, kind, target, before, after)
        SELECT id, at, operator, action, kind, target, before, after FROM audit""",
    "DELETE FROM sqlite_sequence WHERE name = 'audit_with_role'",
    """INSERT INTO sqlite_sequence (name, seq)
        SELECT 'audit_with_role', seq FROM sqlite_sequence WHERE name = 'audit'""",
    "DROP TABLE audit",
    "ALTER TABLE audit_with_role RENAME TO audit",
    "CREATE INDEX audit_target ON audit (kind, target)",
    "CREATE INDEX audit_alone ON audit (id) WHERE bulk_id IS NULL",
    "ALTER TABLE account ADD COLUMN blocked_at TEXT",
    "ALTER TABLE account ADD COLUMN blocked_reason TEXT",
    "CREATE INDEX account_blocked ON account (blocked_at) WHERE blocked_at IS NOT NULL",
)

POSTGRES = (
    "ALTER TABLE audit DROP CONSTRAINT what_is_acted_on_is_known",
    f"ALTER TABLE audit ADD CONSTRAINT what_is_acted_on_is_known CHECK (kind IN {_TARGETS})",
    'ALTER TABLE audit ADD COLUMN role TEXT COLLATE "C"',
    'ALTER TABLE audit ADD COLUMN bulk_id TEXT COLLATE "C"',
    "CREATE INDEX audit_alone ON audit (id) WHERE bulk_id IS NULL",
    "ALTER TABLE account ADD COLUMN blocked_at timestamptz(3)",
    "ALTER TABLE account ADD COLUMN blocked_reason TEXT",
    "CREATE INDEX account_blocked ON account (blocked_at) WHERE blocked_at IS NOT NULL",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Change both tables."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
