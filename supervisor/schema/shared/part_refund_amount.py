"""The refund of a completed task that lacks pictures: floor(unit part × missing ÷ units) of its debit.

A debit without parts comes from an older program without base prices: all of it was for pictures.
"""

from __future__ import annotations


def back(ended: str) -> str:
    """The refund as SQL.  ended: the name of the task's row; its debit is `debit`."""
    # Products of 32-bit numbers need 64 bits on PostgreSQL.
    units = "CAST(-debit.amount - coalesce(debit.base, 0) AS BIGINT)"
    return f"({units} * {ended}.missing / {ended}.picture_count)"


def is_some(ended: str) -> str:
    """Whether there is a refund: a unit need not be a picture, and the floor may be 0."""
    return f"coalesce(debit.per, 'picture') = 'picture' AND {back(ended)} > 0"
