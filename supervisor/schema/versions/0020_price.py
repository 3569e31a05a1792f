"""A debit keeps its parts.

credit_entry: base, what of a debit was not for units; per, what a unit is; units, how many there were.  NULL in entries
of an older program, whose debits were all for pictures.
"""

from supervisor.schema.run_statements import run


def _statements(text: str, number: str) -> tuple[str, ...]:
    return (
        "ALTER TABLE credit_entry ADD COLUMN base INTEGER",
        f"ALTER TABLE credit_entry ADD COLUMN per {text}",
        f"ALTER TABLE credit_entry ADD COLUMN units {number}",
    )


SQLITE = _statements("TEXT", "REAL")
POSTGRES = _statements('TEXT COLLATE "C"', "DOUBLE PRECISION")


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
