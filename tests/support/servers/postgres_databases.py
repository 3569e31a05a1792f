"""Empty migrated PostgreSQL databases for tests, used again and again.

A copy of a template costs the server two checkpoints, half a second on a busy machine; restoring the few rows of a used
database costs milliseconds. A database whose schema was changed by its test is not used again. One connection to each
database is kept beside those of the tests: a new one reads the catalogue and compiles the functions again.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from config.settings import Settings
from supervisor.schema.migrate import migrate
from tests.support.servers.postgres_server import server

KEEPER = "keeper of a test's database"  # the name of the one connection that is no test's

_RESET = """
CREATE SCHEMA pristine;
CREATE FUNCTION pristine.shape() RETURNS text LANGUAGE sql AS $$
    SELECT md5(string_agg(part, ',' ORDER BY part)) FROM (
        SELECT format('t%s.%s.%s', oid, tgenabled, xmin) AS part FROM pg_trigger
        UNION ALL SELECT format('a%s.%s.%s', attrelid, attnum, xmin) FROM pg_attribute WHERE attrelid >= 16384
            AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
        UNION ALL SELECT format('p%s.%s', oid, xmin) FROM pg_proc WHERE pronamespace = 'public'::regnamespace) AS parts
$$;
CREATE FUNCTION pristine.reset() RETURNS void LANGUAGE plpgsql AS $$
DECLARE each record;
BEGIN
    SET LOCAL session_replication_role = replica;  -- no trigger fires, no key is checked
    FOR each IN SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE format('DELETE FROM public.%I', each.name);
        IF to_regclass(format('pristine.%I', each.name)) IS NOT NULL THEN
            EXECUTE format('INSERT INTO public.%1$I OVERRIDING SYSTEM VALUE TABLE pristine.%1$I', each.name);
        END IF;
    END LOOP;
    FOR each IN SELECT oid::regclass AS name FROM pg_class WHERE relkind = 'S' LOOP
        PERFORM setval(each.name, 1, false);
    END LOOP;
END $$;
DO $$
DECLARE each record; filled boolean;
BEGIN
    FOR each IN SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', each.name) INTO filled;
        IF filled THEN
            EXECUTE format('CREATE TABLE pristine.%1$I AS TABLE public.%1$I', each.name);
        END IF;
    END LOOP;
END $$;
"""

_free: list[str] = []
_shapes: dict[str, str] = {}
_keepers: dict[str, psycopg.Connection[Any]] = {}


def take_database() -> str:
    """The address of an empty migrated database, this caller's own until it is given back."""
    while _free:
        name = _free.pop()
        if _put_back(name):
            return server().url(name)
        _keepers.pop(name).close()
        server().drop_database(name)
    name = server().create_database(_template())
    _shapes[name] = _shape(_keeper(name))
    return server().url(name)


def give_back(url: str) -> None:
    """Give it to another test; open connections to it are ended."""
    name = url.partition("?")[0].rpartition("/")[2]
    _keeper(name).execute(
        b"""SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()"""
    )
    _free.append(name)


@functools.cache
def _template() -> str:
    name = server().create_database()
    with tempfile.TemporaryDirectory() as folder:
        migrate(Settings(data_dir=Path(folder), database_url=server().url(name)))
    with contextlib.closing(psycopg.connect(server().url(name), autocommit=True)) as connection:
        connection.execute(_RESET.encode())
    return name


def _put_back(name: str) -> bool:
    """Its rows as they were; False when its tables are no longer the same."""
    keeper = _keeper(name)
    is_same = _shape(keeper) == _shapes[name]
    if is_same:
        keeper.execute(b"SELECT pristine.reset()")
    return is_same


def _keeper(name: str) -> psycopg.Connection[Any]:
    """The connection that is kept; a new one where a test has ended it, or the server was restarted."""
    kept = _keepers.get(name)
    if kept is None or not _answers(kept):
        kept = _keepers[name] = psycopg.connect(server().url(name), autocommit=True, application_name=KEEPER)
    return kept


def _answers(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server still knows this connection."""
    with contextlib.suppress(psycopg.OperationalError):
        connection.execute(b"SELECT")
        return True
    return False


def _shape(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute(b"SELECT pristine.shape()").fetchone()
    assert row is not None
    return str(row[0])
