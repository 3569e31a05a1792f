"""How each database says JSON, where a statement takes many rows as one parameter."""

from __future__ import annotations

from typing import NamedTuple

from supervisor.database.interface.database import Transaction


class JsonWords(NamedTuple):
    """texts, rows: the elements of an array, which is one `?`, as a table with `value`.

    texts_of: the same of an array in a JSON column, a template.  json, time: templates that make a text such a
    column's value."""

    array: str
    group: str
    texts: str
    rows: str
    texts_of: str
    json: str
    time: str


_WORDS = {
    "sqlite": JsonWords(
        "json_array",
        "json_group_array",
        "json_each(?)",
        "json_each(?)",
        "json_each({column}, '$.{name}')",
        "{}",
        "{}",
    ),
    "postgresql": JsonWords(
        "jsonb_build_array",
        "jsonb_agg",
        "jsonb_array_elements_text(CAST(? AS jsonb))",
        "jsonb_array_elements(CAST(? AS jsonb))",
        "jsonb_array_elements_text({column} -> '{name}')",
        "CAST({} AS jsonb)",
        "CAST({} AS timestamptz)",
    ),
}


def of_charges(tx: Transaction, table: str) -> str:
    """The condition that a row of this table is of one of some charges; its parameter: `encoded([(task id, charge)])`.

    A task's charges know nothing of each other: what names the task alone finds the work of one that is over.
    """
    pairs = f"SELECT value ->> 0, CAST(value ->> 1 AS INTEGER) FROM {json_words(tx).rows} AS of_charges"
    return f"({table}.task_id, {table}.charge) IN ({pairs})"


def json_words(tx: Transaction) -> JsonWords:
    """The words of this transaction's database."""
    return _WORDS[tx.dialect.name]
