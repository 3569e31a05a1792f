"""Conditions that several statements share, and lists in SQL."""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.database.interface.database import Transaction


def of_steps(tx: Transaction, table: str) -> str:
    """The condition that a row belongs to one of `:steps`, given as `encoded([(task id, charge, step)])`."""
    found = ", ".join(("value ->> 0", *(f"CAST(value ->> {place} AS INTEGER)" for place in (1, 2))))
    triples = f"SELECT {found} FROM {tx.rows(':steps')} AS of_steps"
    return f"({table}.task_id, {table}.charge, {table}.step) IN ({triples})"


def listed(words: Iterable[str]) -> str:
    """Words of this program as a list for SQL: literals, because a planner finds a partial index only by literals."""
    return ",".join(f"'{word}'" for word in words)


def seconds_of_steps() -> str:
    """SQL for the sum of the run times of a task's finished steps; 0 for a type without steps."""
    return """CASE WHEN steps IS NULL THEN 0.0 ELSE (SELECT coalesce(sum(run_seconds), 0.0) FROM task_step
        WHERE task_step.task_id = task_queue.id AND task_step.charge = task_queue.charge) END"""


def waits_since(tx: Transaction) -> str:
    """SQL for the time when a pending task began to wait: when it was submitted, put back or resubmitted, or its
    run_after."""
    put_there = "CASE WHEN attempt = 0 AND charge = 1 THEN created_at ELSE updated_at END"
    return tx.greatest(put_there, f"coalesce(run_after, {put_there})")
