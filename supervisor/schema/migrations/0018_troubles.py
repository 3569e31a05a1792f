"""Data for the person on call: since when and why a breaker is open, and notices of web processes about users.

provider_state: opened_at, when its breaker opened (not when it was tried last); reason, what the service said last.
user_notice: of a user, or of '' for all, what was refused or done too often, since when and how many times.
The index finds tasks under which workers have died, which are few.
"""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"


def _statements(text: str, time: str, now: str) -> tuple[str, ...]:
    return (
        f"ALTER TABLE provider_state ADD COLUMN opened_at {time}",
        f"ALTER TABLE provider_state ADD COLUMN reason {text} NOT NULL DEFAULT ''",
        f"""
    CREATE TABLE user_notice (
        kind {text} NOT NULL,
        user_openid {text} NOT NULL,
        times INTEGER NOT NULL CONSTRAINT it_happened CHECK (times > 0),
        first_at {time} NOT NULL DEFAULT {now},
        last_at {time} NOT NULL DEFAULT {now},
        PRIMARY KEY (kind, user_openid)
    )""",
        """CREATE INDEX task_queue_deadly ON task_queue (deaths)
            WHERE status IN ('pending','processing','ai_processing') AND deaths > 0""",
    )


SQLITE = _statements("TEXT", "TEXT", f"({NOW})")
POSTGRES = _statements('TEXT COLLATE "C"', "timestamptz(3)", "darkroom_now()")


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add columns, table and index."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
