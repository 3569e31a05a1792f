"""Webhooks of orders that came through a door for another service's SDKs, and are told of their end in its words.

door: {"door", "origin", …}, as JSON; NULL for our own webhooks.
"""

from supervisor.schema.run_statements import run

_STATEMENTS = (
    "ALTER TABLE webhook ADD COLUMN door TEXT",
    "ALTER TABLE webhook_delivery ADD COLUMN door TEXT",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Add the columns."""
    run(db, sqlite=_STATEMENTS, postgres=_STATEMENTS)
