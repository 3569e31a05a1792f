"""The triggers on PostgreSQL: guards row by row, changes statement by statement, made anew from the code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Set

import peewee
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled

from supervisor.core.errors import DatabaseBusy
from supervisor.schema.postgres.plpgsql import Trigger
from supervisor.schema.postgres.postgres_change_triggers import changes
from supervisor.schema.postgres.postgres_guards import guards
from supervisor.schema.shared.count_rows import COUNT_ANEW_ON_POSTGRES

# The order in which every transaction locks them (CORRECTNESS 27); the others are locked for a moment only.
_IN_ORDER = (
    "task_queue", "works", "account", "credit_entry", "remote_job", "worker", "task_event", "pause", "audit",
    "provider_cost",
)  # fmt: skip
# For all locks together; for each of them half of the server's `deadlock_timeout` (1 s unless it is set).  Where an
# upgrade and an order wait for each other, the upgrade gives up first and is begun again, and the order is not refused.
_PATIENCE_MS = 500
_PATIENCE_OF_EACH = """SELECT set_config('lock_timeout', greatest(1, CAST(setting AS integer) / 2) || 'ms', true)
    FROM pg_settings WHERE name = 'deadlock_timeout'"""


def triggers() -> list[Trigger]:
    """Every trigger, in the order of creation."""
    return [*guards(), *changes()]


def lock_all_tables(database: peewee.Database, ours: Set[str]) -> None:
    """Keep all other programs away from our tables until the caller's transaction ends.

    ours: their names; the schema may hold other programs' tables too, and may not have all of ours yet.

    Migrations lock tables in an order of their own, so they would wait for programs that wait for them.  Raises
    DatabaseBusy if other programs hold the tables: roll back, and begin again.
    """
    rows = database.execute_sql(
        """SELECT quote_ident(relname) FROM pg_class
            WHERE relkind = 'r' AND relnamespace = quote_ident(current_schema())::regnamespace"""
    ).fetchall()
    present = {name for (name,) in rows} & ours
    if present:
        _lock(database, [*(name for name in _IN_ORDER if name in present), *sorted(present - {*_IN_ORDER})])


def _lock(database: peewee.Database, in_order: Iterable[str]) -> None:
    cursor = database.cursor()
    cursor.execute(f"SET LOCAL statement_timeout = {_PATIENCE_MS}")
    cursor.execute(_PATIENCE_OF_EACH)
    try:
        cursor.execute(f"LOCK TABLE {', '.join(in_order)} IN ACCESS EXCLUSIVE MODE")
    except (QueryCanceled, LockNotAvailable, DeadlockDetected) as error:
        raise DatabaseBusy(
            "The database can't be upgraded: other programs use its tables just now."
        ) from error
    cursor.execute("SET LOCAL statement_timeout = 0")
    cursor.execute("SET LOCAL lock_timeout TO DEFAULT")


def make_triggers(database: peewee.Database, schema: str) -> None:
    """Install this program's triggers in the database, in the caller's transaction; nothing if they are installed
    already.

    schema: its name, quoted.
    """
    wanted = triggers()
    statements = [statement for each in wanted for statement in each.statements(schema)]
    fingerprint = hashlib.sha256("\n".join(statements).encode()).hexdigest()
    present = _present(database)
    (known,) = database.execute_sql("SELECT triggers FROM rule").fetchone()
    if known == fingerprint and {each.name for each in wanted} == {name for name, _ in present}:
        return
    cursor = database.cursor()
    _lock(database, _IN_ORDER)
    for name, table in present:
        if name not in {each.name for each in wanted}:
            cursor.execute(f'DROP TRIGGER "{name}" ON {table}')
            cursor.execute(f'DROP FUNCTION IF EXISTS "{name}"()')
    for statement in (*statements, *COUNT_ANEW_ON_POSTGRES):
        cursor.execute(statement)
    cursor.execute("UPDATE rule SET triggers = %s", (fingerprint,))


def drop_triggers(database: peewee.Database) -> None:
    """Drop every trigger, in the caller's transaction, under locks that `make_triggers` needs to make them again."""
    cursor = database.cursor()
    cursor.execute(f"LOCK TABLE {', '.join(_IN_ORDER)} IN ACCESS EXCLUSIVE MODE")
    for name, table in _present(database):
        cursor.execute(f'DROP TRIGGER "{name}" ON {table}')


def _present(database: peewee.Database) -> list[tuple[str, str]]:
    """(trigger, table) of the existing triggers."""
    rows: list[tuple[str, str]] = database.execute_sql(
        """SELECT tgname, tgrelid::regclass::text FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
            WHERE NOT tgisinternal AND relnamespace = quote_ident(current_schema())::regnamespace ORDER BY tgname"""
    ).fetchall()
    return rows
