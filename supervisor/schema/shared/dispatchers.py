"""Which dispatchers may work on this schema.

A dispatcher of an older program marks tasks and sends hints that no program reads any more.  It does not write the
column that a new leader must write, so it is refused.
"""

from __future__ import annotations

TAKES_OVER_BY_OLD_RULES = "NEW.holder IS NOT NULL AND NEW.claims_term <> NEW.term"
OLD_DISPATCHER = (
    "this database was upgraded: a dispatcher of the older program can not work on it; restart it"
)
