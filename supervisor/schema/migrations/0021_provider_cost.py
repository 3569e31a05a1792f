"""The costs that AI services reported: a row for each request with a cost, never removed.

amount: the service's own text, a decimal.  Floats and the databases' own numbers would round it.
"""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"


def _statements(id_: str, text: str, time: str) -> tuple[str, ...]:
    return (
        f"""
    CREATE TABLE provider_cost (
        id {id_},
        reference {text} NOT NULL CONSTRAINT a_request_costs_once UNIQUE,
        task_id {text} NOT NULL,
        type {text} NOT NULL,
        charge INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        provider {text} NOT NULL,
        amount {text} NOT NULL CONSTRAINT a_cost_is_a_short_number CHECK (length(amount) BETWEEN 1 AND 40),
        unit {text} NOT NULL CONSTRAINT a_cost_has_a_unit CHECK (length(unit) BETWEEN 1 AND 16),
        created_at {time}
    )""",
        "CREATE INDEX provider_cost_time ON provider_cost (created_at)",
        "CREATE INDEX provider_cost_task ON provider_cost (task_id)",
    )


SQLITE = _statements("INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT", f"TEXT NOT NULL DEFAULT ({NOW})")
POSTGRES = _statements(
    "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    'TEXT COLLATE "C"',
    "timestamptz(3) NOT NULL DEFAULT darkroom_now()",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
