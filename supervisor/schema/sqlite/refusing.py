"""Refusals in SQLite's triggers: many conditions in one statement, since each statement of a trigger costs time."""

from __future__ import annotations

from collections.abc import Sequence


def refuse_first(checks: Sequence[tuple[str, str]]) -> str:
    """A statement that aborts with the sentence of the first condition that is true.  checks: (condition, sentence)."""
    quoted = [(condition, sentence.replace("'", "''")) for condition, sentence in checks]
    cases = "\n            ".join(f"WHEN {check} THEN RAISE(ABORT, '{said}')" for check, said in quoted)
    return f"SELECT CASE\n            {cases} END;"
