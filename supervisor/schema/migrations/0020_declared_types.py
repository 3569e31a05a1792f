"""What declared types need: debits that keep their parts, results and uploads that are no pictures.

credit_entry: base, what of a debit was not for units; per, what a unit is; units, how many there were.  NULL in entries
of an older program, whose debits were all for pictures.
task_queue.outputs, works.outputs: files and data of a task that made some (`supervisor.media.shown_outputs`).
result_file.about: of a row that is no picture, what it is.  image.media_type, image.name: of an upload that is none;
its width and height are 0.
"""

from supervisor.schema.run_statements import run


def _statements(text: str, number: str, json: str) -> tuple[str, ...]:
    return (
        "ALTER TABLE credit_entry ADD COLUMN base INTEGER",
        f"ALTER TABLE credit_entry ADD COLUMN per {text}",
        f"ALTER TABLE credit_entry ADD COLUMN units {number}",
        f"ALTER TABLE task_queue ADD COLUMN outputs {json}",
        f"ALTER TABLE works ADD COLUMN outputs {json}",
        f"ALTER TABLE result_file ADD COLUMN about {json}",
        f"ALTER TABLE image ADD COLUMN media_type {text}",
        f"ALTER TABLE image ADD COLUMN name {text}",
    )


SQLITE = _statements("TEXT", "REAL", "TEXT")
POSTGRES = _statements('TEXT COLLATE "C"', "DOUBLE PRECISION", "JSONB")


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
