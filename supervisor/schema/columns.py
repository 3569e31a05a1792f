"""Kinds of columns with their types and defaults on both databases, for the models in `supervisor.schema.tables`."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import peewee


class Both(NamedTuple):
    """What SQLite and PostgreSQL say for the same thing.  None: nothing."""

    sqlite: str | None
    postgresql: str | None


NOW = Both("strftime('%Y-%m-%dT%H:%M:%fZ','now')", "darkroom_now()")
# …: as long as the first migration.
ULID = Both("substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', …", "darkroom_ulid()")
EPOCH = Both(
    "lower(hex(randomblob(6)))", "substr(replace((gen_random_uuid())::text, '-'::text, ''::text), 1, 12)"
)


class Column(peewee.Field):
    """A column.  type_: its type on both databases.

    null: whether it may be NULL.  default: SQL for the value of a row that gives none; a trigger may set another.
    only: the database that has it, where the other one has not.
    """

    type_: ClassVar[Both]

    def __init__(
        self,
        *,
        null: bool = False,
        default: str | Both | None = None,
        primary_key: bool = False,
        only: str | None = None,
    ) -> None:
        super().__init__(null=null, primary_key=primary_key)
        self.born_with = default if isinstance(default, Both) else Both(default, default)
        self.only = only


class Id(Column):
    """Text that is compared by its bytes: ids, words of ours, keys."""

    type_ = Both("TEXT", 'text COLLATE "C"')


class Text(Column):
    """Text for people."""

    type_ = Both("TEXT", "text")


class Integer(Column):
    """A whole number; flags are 0 and 1."""

    type_ = Both("INTEGER", "integer")


class Big(Column):
    """A whole number that may outgrow 32 bits."""

    type_ = Both("INTEGER", "bigint")


class Serial(Column):
    """A number that the database gives; one that was given once never comes again.

    is_given_always: also a program of others can't choose it, on PostgreSQL.
    """

    type_ = Both("INTEGER", "bigint")

    def __init__(self, *, is_given_always: bool = True, **given: Any) -> None:
        super().__init__(primary_key=True, **given)
        self.is_given_always = is_given_always


class Number(Column):
    """A number with a fraction."""

    type_ = Both("REAL", "double precision")


class Time(Column):
    """A moment, to the millisecond, UTC; text on SQLite."""

    type_ = Both("TEXT", "timestamp(3) with time zone")


class Interval(Column):
    """A length of time; text on SQLite, as its functions of time take it."""

    type_ = Both("TEXT", "interval")


class Json(Column):
    """JSON; text on SQLite."""

    type_ = Both("TEXT", "jsonb")


class Bytes(Column):
    """Bytes."""

    type_ = Both("BLOB", "bytea")


class Table(peewee.Model):
    """A table.  What it may say of itself in its `Meta`, beside what peewee knows:

    uniques: {constraint: its columns}.  named_indexes: {name: its columns in brackets, and its condition}; `UNIQUE`
    stands before the brackets.  only: the database that has this table, where the other one has not.
    """

    class Meta:
        legacy_table_names = False  # `TaskQueue` is `task_queue`
        primary_key = False
        uniques: ClassVar[dict[str, str]] = {}
        named_indexes: ClassVar[dict[str, str | Both]] = {}
        only: str | None = None
