"""Bring a PostgreSQL schema up to date, in one transaction; simultaneous upgrades wait for each other.

Tables, functions and triggers change together or not at all, so there is no moment without a guard.  The schema is the
first one of the connection's search_path: `public`, unless DATABASE_URL says otherwise
(`?options=-csearch_path%3Ddarkroom`).
"""

from __future__ import annotations

from collections.abc import Callable

import peewee

from config.settings import Settings
from supervisor.core.errors import SettingFault
from supervisor.database.interface.database import Transaction
from supervisor.schema.postgres.install_triggers import make_triggers
from supervisor.schema.postgres.postgres_functions import functions
from supervisor.schema.postgres.postgres_transaction import one_transaction

OLDEST_SERVER = 14
# An upgrade of a schema holds this lock; the second half is the schema's own number.
_LOCK = "SELECT pg_advisory_xact_lock(1146242632, quote_ident(current_schema())::regnamespace::oid::integer)"

# The rights of a program that makes tasks by plain SQL: only these columns, and no other table.
_WRITABLE = "id, user_openid, type, status, params, priority, run_after"
_READABLE = (
    f"{_WRITABLE}, stage, progress, work_id, charge, attempt, failures, deaths, max_attempts, error, worker_id, lease,"
    " created_at, updated_at, processing_started_at, deadline_at, finished_at"
)


def upgrade_postgres(settings: Settings, run: Callable[[peewee.Database], list[str]]) -> list[str]:
    """Make functions, run the migrations, make triggers; what `run` returns.

    Raises SettingFault, and DatabaseBusy for a server that is away or can't do it now: try again.
    """
    with one_transaction(settings.database_url, "The database can't be upgraded") as database:
        return _upgrade(database, settings, run)


def _upgrade(
    database: peewee.Database, settings: Settings, run: Callable[[peewee.Database], list[str]]
) -> list[str]:
    cursor = database.cursor()
    cursor.execute("SET LOCAL statement_timeout = 0")
    cursor.execute("SELECT current_setting('server_version_num')::integer, quote_ident(current_schema())")
    version, schema = cursor.fetchone()
    if version < OLDEST_SERVER * 10000:
        raise SettingFault(f"Darkroom needs PostgreSQL {OLDEST_SERVER} or newer; this is {version // 10000}.")
    if schema is None:
        raise SettingFault("The search_path in DATABASE_URL names no schema that exists; create it first.")
    cursor.execute(_LOCK)
    for statement in functions(schema):
        cursor.execute(statement)
    applied = run(database)
    make_triggers(database, schema)
    grant = settings.credits.signup_grant if settings.credits.enabled else 0
    cursor.execute(
        "UPDATE rule SET signup_grant = %(grant)s WHERE signup_grant <> %(grant)s", {"grant": grant}
    )
    return applied


def grants_for_producers(tx: Transaction, role: str = "producer") -> list[str]:
    """The GRANTs by which a role may make, watch and retry tasks by plain SQL, and do nothing else.

    Every name has its schema, and no right of PUBLIC is assumed, since the owner may have revoked it.
    """
    here = tx.one("SELECT quote_ident(current_database()) AS name, quote_ident(current_schema()) AS schema")
    assert here is not None
    database, schema = here["name"], here["schema"]
    return [
        f"GRANT CONNECT ON DATABASE {database} TO {role};",
        f"GRANT USAGE ON SCHEMA {schema} TO {role};",
        f"GRANT EXECUTE ON FUNCTION {schema}.darkroom_ulid(), {schema}.darkroom_now() TO {role};",
        f"GRANT INSERT ({_WRITABLE}), UPDATE (status), SELECT ({_READABLE}) ON {schema}.task_queue TO {role};",
    ]
