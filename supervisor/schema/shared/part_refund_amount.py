"""The refund of a completed task that lacks pictures: floor(unit part × missing ÷ units) of its debit.

A debit without parts comes from an older program without base prices: all of it was for pictures.
"""

from __future__ import annotations

# Of a debit, as `debit`, of a task, as `ended`.  Products of 32-bit numbers need 64 bits on PostgreSQL.
BACK = (
    """(CAST(-debit.amount - coalesce(debit.base, 0) AS BIGINT) * {ended}.missing / {ended}.picture_count)"""
)
IS_SOME = "coalesce(debit.per, 'picture') = 'picture' AND {back} > 0"


def back(ended: str) -> str:
    """The refund as SQL.  ended: the name of the task's row."""
    return BACK.format(ended=ended)


def is_some(ended: str) -> str:
    """Whether there is a refund: a unit need not be a picture, and the floor may be 0."""
    return IS_SOME.format(back=back(ended))
