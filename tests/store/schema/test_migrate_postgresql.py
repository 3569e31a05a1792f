"""Making and upgrading the schema on PostgreSQL: in one transaction, from several hosts at once, in any schema."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playhouse.migrations import Runner

from config.settings import Settings
from supervisor.core.errors import DatabaseBusy, SettingFault
from supervisor.database.open_database import open_database
from supervisor.schema.migrate import HISTORY, VERSIONS, check_version, known_versions, migrate
from supervisor.schema.postgres.install_triggers import triggers
from supervisor.schema.postgres.postgres_functions import functions
from supervisor.schema.postgres.postgres_transaction import SchemaDatabase
from supervisor.schema.postgres.postgres_upgrade import grants_for_producers
from tests.conftest import Store, processes
from tests.support.servers.postgres_server import server
from tests.support.waiting import eventually

TRIGGERS = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
TASK = "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-1', 'photography', '{}')"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Settings]:
    """Settings of a database with nothing in it."""
    name = server().create_database()
    yield Settings(data_dir=tmp_path, database_url=server().url(name))
    server().drop_database(name)


def _sql(settings: Settings, statement: str) -> list[Any]:
    with contextlib.closing(psycopg.connect(settings.database_url, autocommit=True)) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def _check(settings: Settings) -> None:
    with contextlib.closing(open_database(settings)) as database:
        check_version(database, settings)


def _migrate(url: str) -> list[str]:
    return migrate(Settings(database_url=url))


def test_several_hosts_may_migrate_at_once(empty: Settings) -> None:
    with pytest.raises(
        SettingFault, match=r"not up to date \(0001_first is missing\); run `darkroom migrate`"
    ):
        _check(empty)
    with processes(3) as pool:
        applied = [name for names in pool.map(_migrate, [empty.database_url] * 3) for name in names]
    assert sorted(applied) == known_versions()
    _check(empty)
    assert {name for (name,) in _sql(empty, TRIGGERS)} == {each.name for each in triggers()}


def test_migrating_again_changes_nothing_and_locks_nothing(empty: Settings) -> None:
    migrate(empty)
    made = "SELECT oid, xmin FROM pg_proc WHERE prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql')"
    before = _sql(empty, f"{made} AND prorettype = 'trigger'::regtype ORDER BY oid")
    with contextlib.closing(psycopg.connect(empty.database_url)) as somebody:
        somebody.execute(TASK)  # and has not committed yet
        assert migrate(empty) == []
        somebody.commit()
    assert _sql(empty, f"{made} AND prorettype = 'trigger'::regtype ORDER BY oid") == before


def test_an_older_database_is_brought_up_to_date_with_its_rows(empty: Settings) -> None:
    _older(empty, known_versions()[0])
    _sql(
        empty,
        """INSERT INTO task_queue (id, user_openid, type, params, created_at, updated_at)
            VALUES ('t', 'o', 'photography', '{}', darkroom_now(), darkroom_now())""",
    )
    assert migrate(empty) == known_versions()[1:]
    _check(empty)
    assert _sql(empty, "SELECT id, status, charge FROM task_queue") == [("t", "pending", 1)]


def _older(empty: Settings, version: str) -> None:
    """The database as a program of that migration leaves it, with triggers of nobody."""
    with contextlib.closing(SchemaDatabase(empty.database_url)) as older:
        older.connect()
        for statement in functions("public"):
            older.execute_sql(statement)
        Runner(older, directory=str(VERSIONS), table_name=HISTORY).up(version)


@pytest.mark.parametrize("held", ["rule", "dispatcher", "provider_state"])
def test_an_upgrade_that_would_wait_for_a_transaction_that_waits_for_it_gives_up_and_is_begun_again(
    empty: Settings, held: str
) -> None:
    """It gives up first: the other transaction may be an order."""
    _older(empty, known_versions()[5])
    # The upgrade has half of it from its last lock on, the order has all of it from an earlier moment on.
    _sql(
        empty, f"ALTER DATABASE {_sql(empty, 'SELECT current_database()')[0][0]} SET deadlock_timeout = '4s'"
    )
    with (
        contextlib.closing(psycopg.connect(empty.database_url)) as order,
        contextlib.closing(psycopg.connect(empty.database_url, autocommit=True)) as watch,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        order.execute(f"LOCK TABLE {held} IN ROW EXCLUSIVE MODE")
        upgrading = pool.submit(migrate, empty)
        eventually(
            "the upgrade has task_queue, or has given up",
            lambda: (
                upgrading.done()
                or watch.execute(
                    """SELECT 1 FROM pg_locks WHERE relation = 'task_queue'::regclass AND granted
                        AND mode = 'AccessExclusiveLock'"""
                ).fetchone()
            ),
        )
        order.execute(
            "SELECT count(*) FROM task_queue"
        )  # raises DeadlockDetected if it is the one to give up
        with pytest.raises(DatabaseBusy, match="other programs use its tables just now"):
            upgrading.result(60)
        order.commit()
    assert migrate(empty) == known_versions()[6:]
    _check(empty)


def test_an_upgrade_leaves_other_programs_tables_of_the_schema_alone(empty: Settings) -> None:
    _older(empty, known_versions()[0])
    _sql(empty, "CREATE TABLE of_another_program (id INTEGER)")
    with contextlib.closing(psycopg.connect(empty.database_url)) as other:
        other.execute("LOCK TABLE of_another_program IN ACCESS EXCLUSIVE MODE")
        assert migrate(empty) == known_versions()[1:]


def test_triggers_belong_to_the_program_that_migrated_last(empty: Settings) -> None:
    migrate(empty)
    _sql(empty, "DROP TRIGGER task_queue_guard ON task_queue")
    _sql(
        empty,
        """CREATE FUNCTION left_over() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER left_over BEFORE INSERT ON worker FOR EACH ROW EXECUTE FUNCTION left_over()""",
    )
    migrate(empty)
    assert {name for (name,) in _sql(empty, TRIGGERS)} == {each.name for each in triggers()}
    _sql(empty, "UPDATE rule SET triggers = 'of another program'")
    _sql(empty, "CREATE OR REPLACE FUNCTION works_added() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'")
    migrate(empty)
    ((body,),) = _sql(empty, "SELECT prosrc FROM pg_proc WHERE proname = 'works_added'")
    assert "work_change" in body


def test_a_newer_database_is_refused_and_left_as_it_is(empty: Settings) -> None:
    migrate(empty)
    _sql(empty, f"INSERT INTO {HISTORY} (name, applied) VALUES ('9999_future', '2099-01-01')")
    _sql(empty, "DROP TRIGGER works_guard ON works")
    for attempt in (migrate, _check):
        with pytest.raises(SettingFault, match=r"newer Darkroom \(9999_future\)"):
            attempt(empty)
    assert _sql(empty, f"{TRIGGERS} AND tgname = 'works_guard'") == []


def test_a_migration_that_fails_leaves_nothing_behind(empty: Settings) -> None:
    _sql(empty, "CREATE TABLE works (something TEXT)")
    with pytest.raises(SettingFault, match='can\'t be upgraded: relation "works" already exists'):
        migrate(empty)
    assert _sql(empty, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("works",)]


def test_a_database_that_can_not_be_reached_is_reported_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://darkroom:geheim@/nothing?host={tmp_path}"
    with pytest.raises(DatabaseBusy, match="can't be upgraded") as told:
        migrate(Settings(data_dir=tmp_path, database_url=url))
    assert "geheim" not in str(told.value)


def test_darkroom_lives_in_the_schema_that_the_address_names(empty: Settings) -> None:
    _sql(empty, "CREATE SCHEMA dark")
    url = f"{empty.database_url}&options=-csearch_path%3Ddark"
    there = Settings(data_dir=empty.data_dir, database_url=url)
    migrate(there)
    _check(there)
    _sql(there, TASK)
    # Triggers find their tables whatever the search_path of the statement is.
    _sql(empty, TASK.replace("task_queue", "dark.task_queue"))
    assert _sql(empty, "SELECT count(*) FROM dark.task_queue JOIN dark.account USING (user_openid)") == [(2,)]
    assert _sql(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    with pytest.raises(SettingFault, match="names no schema that exists"):
        migrate(Settings(data_dir=empty.data_dir, database_url=f"{url}er"))


def test_the_signup_grant_follows_the_settings(empty: Settings) -> None:
    def granted(user: str, **credits: Any) -> list[Any]:
        migrate(Settings(data_dir=empty.data_dir, database_url=empty.database_url, credits=credits))
        _sql(empty, f"INSERT INTO account (user_openid) VALUES ('{user}')")
        return _sql(empty, f"SELECT amount FROM credit_entry WHERE user_openid = '{user}'")

    assert granted("a") == [(100,)]
    assert granted("b", signup_grant=7) == [(7,)]
    assert granted("c", enabled=False) == []


@pytest.mark.postgresql_only
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_producers_role_makes_watches_and_retries_tasks_and_does_nothing_else(
    store: Store, is_closed: bool
) -> None:
    """With the printed grants and nothing else, also where the owner has revoked PUBLIC's default rights."""
    url = store.settings.database_url
    with contextlib.closing(psycopg.connect(url, autocommit=True)) as owner:
        owner.execute("DROP ROLE IF EXISTS producer")
        owner.execute("CREATE ROLE producer LOGIN")
        try:
            if is_closed:
                owner.execute(f"REVOKE ALL ON DATABASE {owner.info.dbname} FROM PUBLIC".encode())
                owner.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
                owner.execute("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
            for grant in store.database.read(grants_for_producers):
                owner.execute(grant.encode())
            with contextlib.closing(psycopg.connect(url, user="producer", autocommit=True)) as producer:
                _as_producer(producer, store, is_closed=is_closed)
        finally:
            owner.execute("DROP OWNED BY producer")
            owner.execute("DROP ROLE producer")


def test_every_grant_names_its_schema(empty: Settings) -> None:
    _sql(empty, 'CREATE SCHEMA "Dark"')
    url = f"{empty.database_url}&options=-csearch_path%3D%22Dark%22"
    there = Settings(data_dir=empty.data_dir, database_url=url)
    migrate(there)
    with contextlib.closing(open_database(there)) as database:
        grants = database.read(grants_for_producers)
    assert 'GRANT USAGE ON SCHEMA "Dark" TO producer;' in grants
    assert grants[-1].endswith(' ON "Dark".task_queue TO producer;')


def _as_producer(producer: psycopg.Connection[Any], store: Store, *, is_closed: bool) -> None:
    refused = psycopg.errors.InsufficientPrivilege
    producer.execute(TASK)
    store.admit_waiting()  # it fails: no image
    (row,) = producer.execute("SELECT status, error ->> 'code' FROM task_queue").fetchall()
    assert row == ("failed", "bad_params")
    producer.execute("UPDATE task_queue SET status = 'pending'")
    assert store.value("SELECT charge FROM task_queue") == 2
    for statement in (
        "UPDATE task_queue SET priority = 10",
        "DELETE FROM task_queue",
        "SELECT * FROM account",
        "UPDATE account SET balance = 1000",
        "INSERT INTO credit_entry (user_openid, kind, amount) VALUES ('o-1', 'grant', 5)",
        "TRUNCATE task_queue",
    ):
        with pytest.raises(refused):
            producer.execute(statement.encode())
    if is_closed:  # it may not even make tables of its own
        return
    # The ledger's trigger moves balances with its owner's rights: no other user may run it on a table of their own.
    producer.execute("CREATE TEMP TABLE mine (user_openid TEXT, amount INTEGER, kind TEXT)")
    with pytest.raises(refused):
        producer.execute(
            """CREATE TRIGGER mint AFTER INSERT ON mine REFERENCING NEW TABLE AS new_rows
                FOR EACH STATEMENT EXECUTE FUNCTION credit_entry_booked()"""
        )
