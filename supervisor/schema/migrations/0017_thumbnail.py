"""Of a finished picture, its thumbnail: `{"key", "width", "height"}`.  Pictures that were made before have none."""

from supervisor.schema.run_statements import run

SQLITE = (
    """ALTER TABLE result_file ADD COLUMN thumbnail TEXT
        CONSTRAINT a_thumbnail_names_its_key CHECK (thumbnail IS NULL OR thumbnail ->> '$.key' IS NOT NULL)""",
)
POSTGRES = (
    """ALTER TABLE result_file ADD COLUMN thumbnail JSONB
        CONSTRAINT a_thumbnail_names_its_key CHECK (thumbnail IS NULL OR thumbnail ->> 'key' IS NOT NULL)""",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the column."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
