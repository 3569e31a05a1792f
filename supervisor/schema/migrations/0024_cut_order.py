"""Orders of a door whose callers were cut off before their answers were written: each may be taken over by one repeat.

door: whose SDK it was.  body_hash: of what was asked, in canonical form.  cut_at: when the connection ended.
"""

from supervisor.schema.run_statements import run


def _statements(text: str, time: str) -> tuple[str, ...]:
    return (
        f"""
    CREATE TABLE cut_order (
        task_id {text} PRIMARY KEY NOT NULL,
        user_openid {text} NOT NULL,
        door {text} NOT NULL,
        body_hash {text} NOT NULL,
        cut_at {time} NOT NULL
    )""",
        "CREATE INDEX cut_order_body ON cut_order (body_hash)",
        "CREATE INDEX cut_order_age ON cut_order (cut_at)",
    )


SQLITE = _statements("TEXT", "TEXT")
POSTGRES = _statements('TEXT COLLATE "C"', "TIMESTAMPTZ(3)")


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
