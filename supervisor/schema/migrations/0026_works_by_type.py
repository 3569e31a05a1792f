"""An index for a user's works of one type, newest first: without it, a search reads all works of the user."""

from supervisor.schema.run_statements import run

_STATEMENTS = ("CREATE INDEX works_type ON works (user_openid, type, created_at DESC, id DESC)",)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the index."""
    run(db, sqlite=_STATEMENTS, postgres=_STATEMENTS)
