"""Copy a SQLite database into an empty PostgreSQL one: everything, in one transaction, or nothing.

The guards refuse rows that were not made step by step, so they are dropped and made anew in the same transaction, under
locks that keep all other programs out of the target.  Before the commit, the rows of each table are counted, and
balances and ledger are added up, on both sides.

Only data about the database itself is not copied: its version, its leader, its numbers of tasks (which are counted anew
with the triggers).  Every user's feed gets a new epoch, as after a restore: if the old system is started again, its
event ids can't be mistaken for the new system's (CORRECTNESS 30).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import peewee

from config.settings import Settings
from supervisor.core.errors import SettingFault
from supervisor.schema.copy.copy_source import Source
from supervisor.schema.postgres.install_triggers import drop_triggers, make_triggers
from supervisor.schema.postgres.postgres_transaction import one_transaction

# Tables about the database itself.
LEFT = frozenset({"migration_history", "rule", "dispatcher", "wake", "task_count"})
# The migration makes rows in these tables, so they do not show that the database is in use.
_BORN_FULL = frozenset({"file_walk"})

_SUMS = {
    "credits in the ledger": "SELECT coalesce(sum(amount), 0) FROM credit_entry",
    "credits in accounts": "SELECT coalesce(sum(balance), 0) FROM account",
    "accounts that differ from their ledger": """SELECT count(*) FROM account WHERE balance <> (SELECT
        coalesce(sum(amount), 0) FROM credit_entry WHERE credit_entry.user_openid = account.user_openid)""",
}

Told = Callable[[str, int, int], None]


class Copied(NamedTuple):
    """rows: {table: how many}.  credits: the sum of the ledger, and so of all balances.  unknown: other programs'
    tables."""

    rows: dict[str, int]
    credits: int
    unknown: list[str]


def copy_into_postgres(source: Source, target: Settings, tell: Told) -> Copied:
    """Fill the target's empty, migrated database. tell: called with (table, rows copied, rows in all).

    Raises SettingFault if the target is not empty or can't be used, DatabaseBusy if its server is away; then the target
    is unchanged.
    """
    with one_transaction(target.database_url, "Nothing was copied") as database:
        return _copy(source, database, tell)


def _copy(source: Source, database: peewee.Database, tell: Told) -> Copied:
    cursor = database.cursor()
    cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
    cursor.execute("SELECT quote_ident(current_schema())")
    (schema,) = cursor.fetchone()
    found = {name: columns for name, columns in source.tables().items() if name not in LEFT}
    tables = {name: columns for name, columns in found.items() if _exists(cursor, name)}
    drop_triggers(database)  # under locks that keep all other programs out
    _refuse_one_in_use(cursor, list(tables))
    rows = {table: source.count(table) for table in tables}
    done, total = 0, sum(rows.values())
    for table, columns in tables.items():
        tell(table, done, total)
        json_columns = _json_columns(cursor, table)
        cursor.execute(f"DELETE FROM {table}")  # rows from the migration
        with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
            for several in source.rows(table, columns, json_columns):
                for row in several:
                    copy.write_row(row)
                done += len(several)
                tell(table, done, total)
    _set_sequences(cursor, source.last_ids())
    cursor.execute("UPDATE account SET epoch = DEFAULT")
    make_triggers(database, schema)
    _refuse_difference(source, cursor, rows)
    cursor.execute(f"ANALYZE {', '.join(tables)}")
    return Copied(rows, int(source.value(_SUMS["credits in the ledger"])), sorted(set(found) - set(tables)))


def _exists(cursor: Any, table: str) -> bool:
    cursor.execute("SELECT to_regclass(quote_ident(%s)) IS NOT NULL", (table,))
    return bool(cursor.fetchone()[0])


def _refuse_one_in_use(cursor: Any, tables: list[str]) -> None:
    cursor.execute("SELECT 1 FROM dispatcher WHERE holder IS NOT NULL")
    if cursor.fetchone() is not None:
        raise SettingFault(
            "Nothing was copied: a dispatcher works on the new database; stop everything there."
        )
    for table in set(tables) - _BORN_FULL:
        cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {table})")
        if cursor.fetchone()[0]:
            raise SettingFault(
                f"Nothing was copied: the new database is not empty (there is something in {table}). Take an empty "
                "one; nothing is ever overwritten or merged."
            )


def _json_columns(cursor: Any, table: str) -> frozenset[str]:
    cursor.execute(
        """SELECT attname FROM pg_attribute
            WHERE attrelid = to_regclass(%s) AND attnum > 0 AND atttypid = 'jsonb'::regtype""",
        (table,),
    )
    return frozenset(name for (name,) in cursor.fetchall())


def _set_sequences(cursor: Any, last_ids: dict[str, int]) -> None:
    """Ids continue after the last one: a used id is never given again, even if its row was deleted."""
    cursor.execute(
        """SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
            WHERE attidentity <> '' AND relnamespace = quote_ident(current_schema())::regnamespace"""
    )
    for table, column in cursor.fetchall():
        cursor.execute(f"SELECT coalesce(max({column}), 0) FROM {table}")
        last = max(cursor.fetchone()[0], last_ids.get(table, 0))
        if last:
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", (table, column, last))


def _refuse_difference(source: Source, cursor: Any, rows: dict[str, int]) -> None:
    for table, count in rows.items():
        cursor.execute(f"SELECT count(*) FROM {table}")
        _refuse_unless_equal(f"rows of {table}", count, cursor.fetchone()[0])
    for what, query in _SUMS.items():
        cursor.execute(query)
        _refuse_unless_equal(what, source.value(query), cursor.fetchone()[0])


def _refuse_unless_equal(what: str, old: int, new: int) -> None:
    if old != new:
        raise SettingFault(f"Nothing was copied: there are {old} {what}, but {new} would have arrived.")
