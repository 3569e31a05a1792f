"""Conditions that several statements share, and lists in SQL."""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.database.interface.database import Transaction

# As the index has it from which tasks are picked.
READY = "status = 'pending' AND ready = 1 AND dispatched_at IS NULL"


def of_charges(tx: Transaction, table: str) -> str:
    """The condition that a row of this table is of one of some charges, `:charges`, as `encoded([(task id, charge)])`.

    A task's charges know nothing of each other: what names the task alone finds the work of one that is over.
    """
    pairs = f"SELECT value ->> 0, CAST(value ->> 1 AS INTEGER) FROM {tx.rows(':charges')} AS of_charges"
    return f"({table}.task_id, {table}.charge) IN ({pairs})"


def listed(words: Iterable[str]) -> str:
    """Words of ours as SQL has them in brackets; a partial index is found by them only where they stand in the text."""
    return ",".join(f"'{word}'" for word in words)
