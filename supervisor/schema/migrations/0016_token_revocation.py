"""Tokens that were taken back: a user's, up to a moment, or one by its id.  Seconds since 1970, as tokens have them."""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"


def _statements(text: str, number: str, time: str) -> tuple[str, ...]:
    return (
        f"""
    CREATE TABLE token_revocation (
        name {text} NOT NULL,
        kind {text} NOT NULL CONSTRAINT a_user_or_a_token_is_revoked CHECK (kind IN ('user','jti')),
        not_before {number} NOT NULL,
        expires_at {number},
        revoked_at {time},
        PRIMARY KEY (name, kind)
    )""",
        "CREATE INDEX token_revocation_end ON token_revocation (expires_at) WHERE expires_at IS NOT NULL",
    )


SQLITE = _statements("TEXT", "REAL", f"TEXT NOT NULL DEFAULT ({NOW})")
POSTGRES = _statements(
    'TEXT COLLATE "C"', "double precision", "timestamptz(3) NOT NULL DEFAULT darkroom_now()"
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create the table."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
