"""Types with steps: where a task stands among its steps, and the results of finished ones.

task_queue: step, counted from 0; first_step, with which the present charge began; last_step; steps, as they were when
the task was admitted, as JSON; lane, what the pick needs to know of the present step (`supervisor.steps.lanes`); kept,
credits that a refund leaves out.  All other tables: the step that a row belongs to; 0 for types without steps.
task_step: the finished steps of a charge.  resumed: whether an earlier charge has made its results.
"""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

_KNOWN = """('submitted','admitted','rejected','claimed','handed_off','attempt_failed','retried','postponed',
    'released','completed','failed','cancelled','resubmitted','advanced','resumed')"""
_STEP = "step INTEGER NOT NULL DEFAULT 0"


def _columns(json: str, text: str) -> tuple[str, ...]:
    return (
        f"ALTER TABLE task_queue ADD COLUMN {_STEP}",
        "ALTER TABLE task_queue ADD COLUMN first_step INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE task_queue ADD COLUMN last_step INTEGER NOT NULL DEFAULT 0",
        f"ALTER TABLE task_queue ADD COLUMN steps {json}",
        f"ALTER TABLE task_queue ADD COLUMN lane {text} NOT NULL DEFAULT ''",
        "ALTER TABLE task_queue ADD COLUMN kept INTEGER NOT NULL DEFAULT 0",
        f"ALTER TABLE remote_job ADD COLUMN {_STEP}",
        f"ALTER TABLE remote_report ADD COLUMN {_STEP}",
        f"ALTER TABLE result_file ADD COLUMN {_STEP}",
        f"ALTER TABLE provider_cost ADD COLUMN {_STEP}",
        "DROP INDEX task_queue_pick",
        """CREATE INDEX task_queue_pick ON task_queue (type, lane, priority DESC, turn, created_at, id)
            WHERE status = 'pending' AND ready = 1 AND dispatched_at IS NULL""",
        """CREATE INDEX task_queue_between_steps ON task_queue (type)
            WHERE status = 'pending' AND step > first_step""",
    )


def _table(json: str, text: str, number: str, time: str) -> str:
    return f"""
    CREATE TABLE task_step (
        task_id {text} NOT NULL,
        charge INTEGER NOT NULL,
        step INTEGER NOT NULL,
        name {text} NOT NULL,
        params_hash {text} NOT NULL,
        images {json} NOT NULL,
        outputs {json},
        missing INTEGER NOT NULL,
        kept_credits INTEGER NOT NULL,
        run_seconds {number},
        resumed INTEGER NOT NULL DEFAULT 0,
        finished_at {time},
        PRIMARY KEY (task_id, charge, step)
    )"""


SQLITE = (
    *_columns("TEXT", "TEXT"),
    _table("TEXT", "TEXT", "REAL", f"TEXT NOT NULL DEFAULT ({NOW})"),
    # A CHECK can't be changed here, so the table is made anew.
    f"""
    CREATE TABLE task_event_with_steps (
        id INTEGER PRIMARY KEY,
        task_id TEXT NOT NULL,
        event TEXT NOT NULL CONSTRAINT event_is_known CHECK (event IN {_KNOWN}),
        attempt INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        worker_id TEXT,
        run_after TEXT,
        error TEXT,
        at TEXT NOT NULL DEFAULT ({NOW}),
        {_STEP}
    )""",
    """INSERT INTO task_event_with_steps (id, task_id, event, attempt, lease, worker_id, run_after, error, at)
        SELECT id, task_id, event, attempt, lease, worker_id, run_after, error, at FROM task_event ORDER BY id""",
    # Triggers of other tables name it all the while, and no program may write a task without them.
    "PRAGMA legacy_alter_table = ON",
    "DROP TABLE task_event",
    "ALTER TABLE task_event_with_steps RENAME TO task_event",
    "PRAGMA legacy_alter_table = OFF",
    "CREATE INDEX task_event_task ON task_event (task_id)",
)

POSTGRES = (
    *_columns("JSONB", 'TEXT COLLATE "C"'),
    _table("JSONB", 'TEXT COLLATE "C"', "DOUBLE PRECISION", "timestamptz(3) NOT NULL DEFAULT darkroom_now()"),
    f"ALTER TABLE task_event ADD COLUMN {_STEP}",
    "ALTER TABLE task_event DROP CONSTRAINT event_is_known",
    f"ALTER TABLE task_event ADD CONSTRAINT event_is_known CHECK (event IN {_KNOWN})",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns and the table."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
