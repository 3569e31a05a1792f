"""What operators look back at: a row a minute, the log lines of attempts that did not succeed, and refused messages.

minute_history: pending to oldest_seconds are as they stood; the other numbers only grow, and two rows are subtracted.
entry_id: of the newest entry of the ledger that credits counts.  program: of the sweep; it changes with each deploy.
attempt_log: lines is a JSON array of the last few lines, without secrets.
refused_order: an order by Dramatiq, which makes no task and has nobody to tell.
"""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"


def _statements(
    id_: str, text: str, big: str, number: str, json: str, time: str, now: str
) -> tuple[str, ...]:
    return (
        f"""
    CREATE TABLE minute_history (
        minute {text} PRIMARY KEY NOT NULL,
        pending INTEGER NOT NULL,
        running INTEGER NOT NULL,
        stuck INTEGER NOT NULL,
        oldest_seconds {number} NOT NULL,
        waits {number} NOT NULL,
        wait_seconds {number} NOT NULL,
        completed {number} NOT NULL,
        failed {number} NOT NULL,
        credits {big} NOT NULL,
        entry_id {big} NOT NULL,
        costs {json} NOT NULL,
        program {text} NOT NULL
    )""",
        f"""
    CREATE TABLE attempt_log (
        task_id {text} NOT NULL,
        lease INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        worker_id {text},
        lines {json} NOT NULL,
        at {time} NOT NULL DEFAULT {now},
        PRIMARY KEY (task_id, lease)
    )""",
        "CREATE INDEX attempt_log_age ON attempt_log (at)",
        f"""
    CREATE TABLE refused_order (
        id {id_},
        message_id {text},
        user_openid TEXT,
        type TEXT,
        reason TEXT NOT NULL,
        at {time} NOT NULL DEFAULT {now}
    )""",
    )


SQLITE = _statements(
    "INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT", "INTEGER", "REAL", "TEXT", "TEXT", f"({NOW})"
)
POSTGRES = _statements(
    "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    'TEXT COLLATE "C"',
    "BIGINT",
    "DOUBLE PRECISION",
    "jsonb",
    "timestamptz(3)",
    "darkroom_now()",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the tables."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
