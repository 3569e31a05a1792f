"""Empty migrated PostgreSQL databases for tests, used again and again.

A copy of a template costs the server two checkpoints, half a second on a busy machine; restoring the few rows of a used
database costs milliseconds. A database whose schema was changed by its test is not used again.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from config.settings import Settings
from supervisor.schema.migrate import migrate
from tests.support.servers.postgres_server import server

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


def take_database() -> str:
    """The address of an empty migrated database, this caller's own until it is given back."""
    while _free:
        name = _free.pop()
        if _put_back(name):
            return server().url(name)
        server().drop_database(name)
    name = server().create_database(_template())
    with _connected(name) as connection:
        _shapes[name] = _shape(connection)
    return server().url(name)


def give_back(url: str) -> None:
    """Give it to another test; open connections to it are ended."""
    name = url.partition("?")[0].rpartition("/")[2]
    with server().admin() as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
    _free.append(name)


@functools.cache
def _template() -> str:
    name = server().create_database()
    with tempfile.TemporaryDirectory() as folder:
        migrate(Settings(data_dir=Path(folder), database_url=server().url(name)))
    with _connected(name) as connection:
        connection.execute(_RESET.encode())
    return name


def _put_back(name: str) -> bool:
    """Its rows as they were; False when its tables are no longer the same."""
    with _connected(name) as connection:
        is_same = _shape(connection) == _shapes[name]
        if is_same:
            connection.execute(b"SELECT pristine.reset()")
        return is_same


def _shape(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute(b"SELECT pristine.shape()").fetchone()
    assert row is not None
    return str(row[0])


@contextlib.contextmanager
def _connected(name: str) -> Iterator[psycopg.Connection[Any]]:
    with contextlib.closing(psycopg.connect(server().url(name), autocommit=True)) as connection:
        yield connection
