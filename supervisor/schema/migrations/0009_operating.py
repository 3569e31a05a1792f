"""What operators do: types and providers they have paused, and a record of each of their actions."""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

_TARGETS = "('task','worker','type','provider','sweep')"

SQLITE = (
    f"""
    CREATE TABLE pause (
        kind TEXT NOT NULL CONSTRAINT a_type_or_a_provider_is_paused CHECK (kind IN ('type','provider')),
        name TEXT NOT NULL,
        operator TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '',
        at TEXT NOT NULL DEFAULT ({NOW}),
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID""",
    f"""
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL DEFAULT ({NOW}),
        operator TEXT NOT NULL,
        action TEXT NOT NULL,
        kind TEXT NOT NULL CONSTRAINT what_is_acted_on_is_known CHECK (kind IN {_TARGETS}),
        target TEXT NOT NULL,
        before TEXT,
        after TEXT
    )""",
    "CREATE INDEX audit_target ON audit (kind, target)",
)

POSTGRES = (
    """
    CREATE TABLE pause (
        kind TEXT COLLATE "C" NOT NULL
            CONSTRAINT a_type_or_a_provider_is_paused CHECK (kind IN ('type','provider')),
        name TEXT COLLATE "C" NOT NULL,
        operator TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '',
        at timestamptz(3) NOT NULL DEFAULT darkroom_now(),
        PRIMARY KEY (kind, name)
    )""",
    f"""
    CREATE TABLE audit (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz(3) NOT NULL DEFAULT darkroom_now(),
        operator TEXT NOT NULL,
        action TEXT NOT NULL,
        kind TEXT COLLATE "C" NOT NULL CONSTRAINT what_is_acted_on_is_known CHECK (kind IN {_TARGETS}),
        target TEXT COLLATE "C" NOT NULL,
        before jsonb,
        after jsonb
    )""",
    "CREATE INDEX audit_target ON audit (kind, target)",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the tables."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
