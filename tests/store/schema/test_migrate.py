"""Making and upgrading a SQLite file: again, from several places at once, and never downwards."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import peewee
import pytest
from playhouse.migrations import Runner

from config.settings import Settings
from supervisor.core.errors import SettingFault
from supervisor.database.open_database import open_database
from supervisor.schema.migrate import HISTORY, VERSIONS, check_version, known_versions, migrate
from supervisor.schema.sqlite.sqlite_triggers import triggers
from tests.conftest import Store, processes

pytestmark = pytest.mark.sqlite_only


def _sql(settings: Settings, statement: str, *params: Any) -> list[Any]:
    with contextlib.closing(sqlite3.connect(settings.data_dir / "darkroom.db", timeout=15)) as connection:
        rows = connection.execute(statement, params).fetchall()
        connection.commit()
        return rows


def _check(settings: Settings) -> None:
    database = open_database(settings.database_url)
    try:
        check_version(database, settings)
    finally:
        database.close()


def _migrate(folder: Path) -> list[str]:
    return migrate(Settings(data_dir=folder))


def test_a_new_database_gets_every_version_and_every_trigger(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "not" / "there" / "yet")
    assert [name.partition(" ")[0] for name in migrate(settings)] == known_versions()
    _check(settings)
    rows = _sql(settings, "SELECT name FROM sqlite_master WHERE type = 'trigger'")
    assert {row[0] for row in rows} == set(triggers())
    assert _sql(settings, "PRAGMA journal_mode") == [("wal",)]


def test_migrating_again_changes_nothing(store: Store) -> None:
    before = store.all("SELECT type, name, sql FROM sqlite_master ORDER BY name")
    rowversion = store.value("PRAGMA schema_version")
    assert migrate(store.settings) == []
    assert store.all("SELECT type, name, sql FROM sqlite_master ORDER BY name") == before
    assert store.value("PRAGMA schema_version") == rowversion


def test_several_places_may_migrate_at_once(tmp_path: Path) -> None:
    with processes(3) as pool:
        applied = [name for names in pool.map(_migrate, [tmp_path] * 3) for name in names]
    assert sorted(applied) == known_versions()
    _check(Settings(data_dir=tmp_path))


def test_an_older_database_is_brought_up_to_date_with_its_rows(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    older = peewee.SqliteDatabase(str(tmp_path / "darkroom.db"))
    Runner(older, directory=str(VERSIONS), table_name=HISTORY).up(known_versions()[0])
    older.close()
    _sql(
        settings,
        "INSERT INTO task_queue (id, user_openid, type, params) VALUES ('t', 'o', 'photography', '{}')",
    )
    with pytest.raises(
        SettingFault, match=f"not up to date .{known_versions()[1]} is missing.; run `darkroom migrate`"
    ):
        _check(settings)
    assert migrate(settings) == known_versions()[1:]
    _check(settings)
    assert _sql(settings, "SELECT id, status, charge FROM task_queue") == [("t", "pending", 1)]


def test_triggers_belong_to_the_program_that_migrated_last(
    store: Store, producer: sqlite3.Connection
) -> None:
    producer.execute("DROP TRIGGER task_queue_guard")
    producer.execute("CREATE TRIGGER left_over AFTER INSERT ON wake BEGIN SELECT 1; END")
    producer.execute("DROP TRIGGER works_added")
    producer.execute("CREATE TRIGGER works_added AFTER INSERT ON works BEGIN SELECT 1; END")
    migrate(store.settings)
    rows = store.all("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    assert {row["name"]: row["sql"] for row in rows} == {
        name: f"CREATE TRIGGER {name} {text}" for name, text in triggers().items()
    }


def test_a_newer_database_is_refused_and_left_as_it_is(store: Store, producer: sqlite3.Connection) -> None:
    migrate(store.settings)
    producer.execute(f"INSERT INTO {HISTORY} (name, applied) VALUES ('9999_future', '2099-01-01')")
    producer.execute("DROP TRIGGER works_guard")
    for attempt in (lambda: migrate(store.settings), lambda: _check(store.settings)):
        with pytest.raises(SettingFault, match=r"newer Darkroom \(9999_future\)"):
            attempt()
    assert store.value("SELECT count(*) FROM sqlite_master WHERE name = 'works_guard'") == 0


def test_a_missing_database_is_reported_with_advice(tmp_path: Path) -> None:
    with pytest.raises(SettingFault, match=r"There is no database at .*; run `darkroom migrate` first"):
        _check(Settings(data_dir=tmp_path))
    assert not (tmp_path / "darkroom.db").exists()


def test_a_file_that_is_no_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "darkroom.db").write_bytes(b"this is somebody's letter, not a database" * 100)
    with pytest.raises(SettingFault, match="can't be upgraded: file is not a database"):
        migrate(Settings(data_dir=tmp_path))


def test_a_folder_that_can_not_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingFault, match=r"can't be written .*; mend DATA_DIR"):
        migrate(Settings(data_dir=tmp_path / "file" / "below"))


def test_the_signup_grant_follows_the_settings(tmp_path: Path) -> None:
    def granted(user: str, **credits: Any) -> list[Any]:
        settings = Settings(data_dir=tmp_path, credits=credits)
        migrate(settings)
        _sql(settings, "INSERT INTO account (user_openid) VALUES (?)", user)
        return _sql(settings, "SELECT amount FROM credit_entry WHERE user_openid = ?", user)

    assert granted("a") == [(100,)]
    assert granted("b", signup_grant=7) == [(7,)]
    assert granted("c", signup_grant=0) == []
    assert granted("d", enabled=False) == []
    assert granted("e") == [(100,)]


def test_every_index_condition_and_trigger_stands_on_sqlite_3_38(store: Store) -> None:
    """What came later may not be in the schema: a producer's own sqlite3 parses all of it."""
    for row in store.all("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"):
        lowered = row["sql"].lower()
        for later in ("unixepoch('subsec", "'subsec'", "jsonb", " strict", "concat(", "concat_ws(", "timediff(",
                      "octet_length(", "is not distinct from", "is distinct from", "iif(", "string_agg("):  # fmt: skip
            assert later not in lowered, (row["name"], later)
