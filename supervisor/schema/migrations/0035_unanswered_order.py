"""Orders of a door without a key that are stored and not answered yet, and which web process owes the answer.

holder: the name of that process's lock (`supervisor.database.interface.life_lock`), which ends with the process.
"""

from supervisor.schema.run_statements import run


def _statements(text: str, end: str) -> tuple[str, ...]:
    return (
        f"""
    CREATE TABLE unanswered_order (
        body_hash {text} NOT NULL,
        task_id {text} NOT NULL,
        user_openid {text} NOT NULL,
        door {text} NOT NULL,
        holder {text} NOT NULL,
        PRIMARY KEY (body_hash, task_id)
    ){end}""",
    )


SQLITE = _statements("TEXT", " WITHOUT ROWID")
POSTGRES = _statements('TEXT COLLATE "C"', "")


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
