"""Actions on many tasks: what is to be done to which, how far it has come, and what came of it.

place: of the task that was looked at last, as JSON; NULL at the beginning.  step: rises with each part that is done, so
that two runners never do the same part.
"""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"


def _statements(text: str, json: str, time: str, now: str) -> tuple[str, ...]:
    return (
        f"""
    CREATE TABLE bulk_action (
        id {text} PRIMARY KEY NOT NULL,
        action {text} NOT NULL CONSTRAINT a_bulk_action_is_known CHECK (action IN ('retry','cancel','release')),
        filter {json} NOT NULL,
        operator TEXT NOT NULL,
        role {text} NOT NULL,
        state {text} NOT NULL DEFAULT 'running'
            CONSTRAINT a_bulk_action_runs_or_not CHECK (state IN ('running','stopped','done')),
        matched INTEGER NOT NULL,
        done INTEGER NOT NULL DEFAULT 0,
        refused INTEGER NOT NULL DEFAULT 0,
        passed INTEGER NOT NULL DEFAULT 0,
        credits INTEGER NOT NULL DEFAULT 0,
        reasons {json} NOT NULL DEFAULT '{{}}',
        place {json},
        step INTEGER NOT NULL DEFAULT 0,
        created_at {time} NOT NULL DEFAULT {now},
        updated_at {time} NOT NULL DEFAULT {now},
        finished_at {time}
    )""",
        "CREATE INDEX bulk_action_running ON bulk_action (id) WHERE state = 'running'",
    )


SQLITE = _statements("TEXT", "TEXT", "TEXT", f"({NOW})")
POSTGRES = _statements('TEXT COLLATE "C"', "jsonb", "timestamptz(3)", "darkroom_now()")


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
