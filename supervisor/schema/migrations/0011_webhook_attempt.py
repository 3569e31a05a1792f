"""Each attempt to deliver a webhook: when, what its address answered, and when the next is due.

One row for each hint that was taken up, written when it is; ended_at stays empty where its worker died in it.
"""

from supervisor.schema.run_statements import run


def _tables(text: str, time: str) -> tuple[str, ...]:
    return (
        f"""
    CREATE TABLE webhook_attempt (
        delivery_id {text} NOT NULL,
        dispatch INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        started_at {time} NOT NULL,
        ended_at {time},
        status INTEGER,
        error TEXT,
        next_at {time},
        PRIMARY KEY (delivery_id, dispatch)
    )""",
        "CREATE INDEX webhook_delivery_task ON webhook_delivery (task_id)",
        "CREATE INDEX webhook_delivery_owed ON webhook_delivery (created_at) WHERE state IN ('waiting','sending')",
    )


SQLITE = _tables("TEXT", "TEXT")
POSTGRES = _tables('TEXT COLLATE "C"', "timestamptz(3)")


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table, and find deliveries by their task and by how long they have been owed."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
