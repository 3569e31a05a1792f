"""A task's history: a narrow row for each of its steps, written by the triggers of `task_queue`.

Ids follow time, so the oldest rows are the first ones: pruning by age needs no index of its own.
"""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

_KNOWN = """('submitted','admitted','rejected','claimed','handed_off','attempt_failed','retried','postponed',
    'released','completed','failed','cancelled','resubmitted')"""

SQLITE = (
    f"""
    CREATE TABLE task_event (
        id INTEGER PRIMARY KEY,
        task_id TEXT NOT NULL,
        event TEXT NOT NULL CONSTRAINT event_is_known CHECK (event IN {_KNOWN}),
        attempt INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        worker_id TEXT,
        run_after TEXT,
        error TEXT,
        at TEXT NOT NULL DEFAULT ({NOW})
    )""",
    "CREATE INDEX task_event_task ON task_event (task_id)",
)

POSTGRES = (
    f"""
    CREATE TABLE task_event (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        task_id TEXT COLLATE "C" NOT NULL,
        event TEXT COLLATE "C" NOT NULL CONSTRAINT event_is_known CHECK (event IN {_KNOWN}),
        attempt INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        worker_id TEXT COLLATE "C",
        run_after timestamptz(3),
        error jsonb,
        at timestamptz(3) NOT NULL DEFAULT darkroom_now()
    )""",
    "CREATE INDEX task_event_task ON task_event (task_id, id)",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
