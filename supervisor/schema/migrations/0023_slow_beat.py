"""The active dispatcher records how often it beats, since an idle dispatcher beats slowly.

dispatcher.beat_seconds: how much time may pass until its next beat.  dispatcher.paced_term: equals the term of a
dispatcher that follows this rule; `claims_term` stays, unused.

The dispatcher that works now belongs to the older program, which would take a slow beat for a dead one's: it must end.
"""

from supervisor.schema.run_statements import run


def _statements(number: str, count: str) -> tuple[str, ...]:
    return (
        f"ALTER TABLE dispatcher ADD COLUMN beat_seconds {number} NOT NULL DEFAULT 0.25",
        f"ALTER TABLE dispatcher ADD COLUMN paced_term {count} NOT NULL DEFAULT 0",
        "UPDATE dispatcher SET holder = NULL, term = term + 1, beat = beat + 1",
    )


SQLITE = _statements("REAL", "INTEGER")
POSTGRES = _statements("DOUBLE PRECISION", "BIGINT")


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns, and let a dispatcher of this program begin."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
