"""Which dispatchers may work on this schema.

A dispatcher of an older program follows other rules: the oldest ones send hints that no program reads any more, and the
later ones take a slow beat for a dead leader's.  They do not write the column that a new leader must write, so they are
refused.
"""

from __future__ import annotations

TAKES_OVER_BY_OLD_RULES = "NEW.holder IS NOT NULL AND NEW.paced_term <> NEW.term"
OLD_DISPATCHER = (
    "this database was upgraded: a dispatcher of the older program can not work on it; restart it"
)
