"""Users take turns with their webhooks: an index that finds what is due first of each of them."""

from supervisor.schema.run_statements import run

INDEX = (
    """CREATE INDEX webhook_delivery_of_user ON webhook_delivery (user_openid, due_at)
        WHERE state IN ('waiting','sending')""",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Make the index."""
    run(db, sqlite=INDEX, postgres=INDEX)
