"""Outgoing webhooks: the addresses of tasks, and the deliveries to them.

webhook: the address that a task names.  webhook_delivery: what is to be sent, written by the trigger of the step that
ends the task; one for each charge.  data: the task as it was then, pictures by key.  dispatch: the number of its newest
hint; claimed: of the hint that somebody took up.  webhook_gone: addresses that answered 410.
"""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

_INDEXES = (
    "CREATE INDEX webhook_delivery_due ON webhook_delivery (due_at) WHERE state IN ('waiting','sending')",
    "CREATE INDEX webhook_delivery_sending ON webhook_delivery (due_at) WHERE state = 'sending'",
    "CREATE INDEX webhook_delivery_failed ON webhook_delivery (created_at) WHERE state IN ('failed','gone')",
    "CREATE INDEX webhook_delivery_made ON webhook_delivery (created_at)",
    "CREATE INDEX webhook_delivery_ended ON webhook_delivery (ended_at) WHERE ended_at IS NOT NULL",
)


def _tables(text: str, time: str, json: str, now: str) -> tuple[str, ...]:
    return (
        f"CREATE TABLE webhook (task_id {text} PRIMARY KEY NOT NULL, url TEXT NOT NULL)",
        f"""
    CREATE TABLE webhook_delivery (
        id {text} PRIMARY KEY NOT NULL,
        task_id {text} NOT NULL,
        charge INTEGER NOT NULL,
        user_openid {text} NOT NULL,
        url TEXT NOT NULL,
        type TEXT NOT NULL CHECK (type IN ('task.completed','task.failed','task.cancelled')),
        data {json} NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting','sending','delivered','failed','gone')),
        due_at {time} NOT NULL,
        dispatch INTEGER NOT NULL DEFAULT 0,
        claimed INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        last_status INTEGER,
        last_error TEXT,
        created_at {time} NOT NULL DEFAULT ({now}),
        ended_at {time},
        CONSTRAINT a_webhook_ends_once CHECK ((ended_at IS NULL) = (state IN ('waiting','sending')))
    )""",
        f"""
    CREATE TABLE webhook_gone (
        user_openid {text} NOT NULL,
        url TEXT NOT NULL,
        since {time} NOT NULL DEFAULT ({now}),
        PRIMARY KEY (user_openid, url)
    )""",
        *_INDEXES,
    )


SQLITE = _tables("TEXT", "TEXT", "TEXT", NOW)
POSTGRES = _tables('TEXT COLLATE "C"', "timestamptz(3)", "jsonb", "darkroom_now()")


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the tables and their indexes."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
