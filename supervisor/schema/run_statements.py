"""One migration for two databases: runs the statements for the present one."""

from __future__ import annotations

from collections.abc import Iterable

import peewee


def run(database: peewee.Database, *, sqlite: Iterable[str], postgres: Iterable[str]) -> None:
    """Execute a version's statements, in order.  They are plain SQL: a percent sign has no special meaning."""
    cursor = database.cursor()
    for statement in postgres if isinstance(database, peewee.PostgresqlDatabase) else sqlite:
        cursor.execute(statement)
