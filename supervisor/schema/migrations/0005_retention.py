"""Columns and tables for the deletion of unused data: which uploads are in use, and which files are to be deleted.

image.used_at: when the sweep last found the upload in use.  image.expired_at: since when no new task may name it.
doomed_file: objects whose rows are gone, until they are gone too.  file_walk: how far the search for objects without
a row has come, and the name that this database has put into its store.
"""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

_AGING = "CREATE INDEX image_aging ON image (coalesce(used_at, created_at)) WHERE expired_at IS NULL"
_EXPIRED = "CREATE INDEX image_expired ON image (expired_at) WHERE expired_at IS NOT NULL"
_RESULT_KEY = "CREATE INDEX result_file_key ON result_file (key)"

SQLITE = (
    "ALTER TABLE image ADD COLUMN used_at TEXT",
    "ALTER TABLE image ADD COLUMN expired_at TEXT",
    _AGING,
    _EXPIRED,
    _RESULT_KEY,
    """
    CREATE TABLE image_use (
        image_id TEXT NOT NULL,
        task_id TEXT NOT NULL,
        PRIMARY KEY (image_id, task_id)
    ) WITHOUT ROWID""",
    """INSERT INTO image_use (image_id, task_id)
        SELECT DISTINCT image.id, task_queue.id FROM task_queue, json_each(task_queue.params, '$.images') AS used
        JOIN image ON image.id = used.value AND image.user_openid = task_queue.user_openid""",
    f"""
    CREATE TABLE doomed_file (
        key TEXT PRIMARY KEY NOT NULL,
        doomed_at TEXT NOT NULL DEFAULT ({NOW})
    ) WITHOUT ROWID""",
    """
    CREATE TABLE file_walk (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        store_id TEXT NOT NULL,
        after_key TEXT NOT NULL DEFAULT '',
        begun_at TEXT
    )""",
    "INSERT INTO file_walk (id, store_id) VALUES (1, lower(hex(randomblob(16))))",
)

# No release before this one has stored anything in PostgreSQL, so there is no use to be noted afterwards.
POSTGRES = (
    "ALTER TABLE image ADD COLUMN used_at timestamptz(3)",
    "ALTER TABLE image ADD COLUMN expired_at timestamptz(3)",
    _AGING,
    _EXPIRED,
    _RESULT_KEY,
    """
    CREATE TABLE image_use (
        image_id TEXT COLLATE "C" NOT NULL,
        task_id TEXT COLLATE "C" NOT NULL,
        PRIMARY KEY (image_id, task_id)
    )""",
    """
    CREATE TABLE doomed_file (
        key TEXT COLLATE "C" PRIMARY KEY,
        doomed_at timestamptz(3) NOT NULL DEFAULT darkroom_now()
    )""",
    """
    CREATE TABLE file_walk (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        store_id TEXT NOT NULL,
        after_key TEXT COLLATE "C" NOT NULL DEFAULT '',
        begun_at timestamptz(3)
    )""",
    "INSERT INTO file_walk (id, store_id) VALUES (1, replace(CAST(gen_random_uuid() AS TEXT), '-', ''))",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns, the indexes and the tables."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
