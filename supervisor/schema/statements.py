"""Statements that peewee's query builder makes of the models in `supervisor.schema.tables`, for our own transactions.

A statement is built once, where a module of the store is imported, and spelled once for each kind of database; from
there on it costs what a text costs.  What changes from run to run is a parameter by name (`param`).  All else that
stands in it is written into it, since a planner takes a partial index only where its condition stands in the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import peewee

from supervisor.database.interface.database import Dialect
from supervisor.schema.columns import Table

# Both databases understand these words; SQLite's own `INSERT OR IGNORE` would also silence what a trigger refuses.
_WORDS = {
    **peewee.PostgresqlDatabase(None).get_context_options(),
    "compound_select_parentheses": peewee.CSQ_PARENTHESES_NEVER,
    "value_literals": True,
}


class Built:
    """A statement of the builder, as `Transaction` takes it instead of a text.  query: peewee's."""

    def __init__(self, query: Any) -> None:
        self._query = query
        self._texts: dict[str, str] = {}

    def spelled(self, dialect: Dialect) -> str:
        """As this database wants it."""
        text = self._texts.get(dialect.name)
        if text is None:
            text, _ = peewee.Context(**_WORDS, dialect=dialect).sql(self._query).query()
            self._texts[dialect.name] = text
        return text


class OfDialect(peewee.Node):
    """A piece of SQL that databases say differently."""

    def __init__(self, say: Callable[[Dialect], str]) -> None:
        self._say = say

    def __sql__(self, ctx: Any) -> Any:
        return ctx.literal(self._say(ctx.state.dialect))


def param(name: str) -> Any:
    """The parameter of this name."""
    return peewee.SQL(f":{name}")


def sql(text: str) -> Any:
    """A condition that has a name in `supervisor.schema.tables`."""
    return peewee.SQL(text)


def new_row(model: type[Table], *columns: str, **fixed: Any) -> Any:
    """An INSERT of one row.  columns: each is the parameter of its own name; fixed: {column: its value}."""
    return model.insert({name: param(name) for name in columns} | fixed)


def row_in(columns: Sequence[Any], query: Any) -> Any:
    """The condition that these columns together are one of a query's rows."""
    return peewee.Tuple(*columns).in_(query)


NOW: Any = OfDialect(lambda dialect: dialect.now)
count, exists = peewee.fn.count, peewee.fn.EXISTS
EXCLUDED = peewee.EXCLUDED


def in_seconds(name: str) -> Any:
    """The time so many seconds from now; the seconds are the parameter of this name."""
    return OfDialect(lambda dialect: dialect.in_seconds.format(seconds=f":{name}"))


def ago(name: str) -> Any:
    """The time so many seconds before now; the seconds are the parameter of this name."""
    return OfDialect(lambda dialect: dialect.in_seconds.format(seconds=f"(0 - :{name})"))


def each_of(name: str) -> Any:
    """What a column may be `in_`: the texts of the JSON array that is the parameter of this name."""
    return OfDialect(
        lambda dialect: f"(SELECT value FROM {dialect.texts.format(array=f':{name}')} AS each_of)"
    )
