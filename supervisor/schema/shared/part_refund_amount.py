"""What a completed task that lacks pictures gets back: floor(unit part × missing ÷ units) of its debit.

A debit without parts is one of a program that knew no base: all of it was for pictures.
"""

from __future__ import annotations

# Of a debit, as `debit`, of a task, as `ended`.  Products of 32-bit numbers need 64 bits on PostgreSQL.
BACK = (
    """(CAST(-debit.amount - coalesce(debit.base, 0) AS BIGINT) * {ended}.missing / {ended}.picture_count)"""
)
IS_SOME = "coalesce(debit.per, 'picture') = 'picture' AND {back} > 0"


def back(ended: str) -> str:
    """The refund as SQL.  ended: the name under which the task's columns are known."""
    return BACK.format(ended=ended)


def is_some(ended: str) -> str:
    """Whether there is one: a unit may be something else than a picture, and a floor may be 0."""
    return IS_SOME.format(back=back(ended))
