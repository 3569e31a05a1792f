"""The functions on PostgreSQL that tables need: the clock and the ids.  Made before the tables."""

from __future__ import annotations

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def functions(schema: str) -> list[str]:
    """Statements that make them, or replace older ones.  schema: its name, quoted."""
    return [
        # STABLE, although the clock goes on: only then may an index be used to find due rows.
        f"""CREATE OR REPLACE FUNCTION darkroom_now() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $body$
BEGIN
    RETURN date_trunc('milliseconds', clock_timestamp()) + (SELECT shift FROM {schema}.rule);
END $body$""",
        # A ULID: 48 bits of milliseconds, then chance, in base 32.
        f"""CREATE OR REPLACE FUNCTION darkroom_ulid() RETURNS text LANGUAGE plpgsql VOLATILE AS $body$
DECLARE
    moment bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    chance bytea := uuid_send(gen_random_uuid());
    made text := '';
BEGIN
    FOR place IN 0..9 LOOP
        made := made || substr('{ALPHABET}', ((moment >> (45 - 5 * place)) & 31)::integer + 1, 1);
    END LOOP;
    FOR place IN 0..15 LOOP
        made := made || substr('{ALPHABET}', (get_byte(chance, place) & 31) + 1, 1);
    END LOOP;
    RETURN made;
END $body$""",
    ]


def as_text(time: str) -> str:
    """SQL for a time as text, in the one form that is shown: YYYY-MM-DDTHH:MM:SS.mmmZ."""
    return f"""to_char({time} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
