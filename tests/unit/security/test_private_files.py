"""Only the owner can read the data folder, with any umask; a start closes files that were open to others."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.load_settings import load_settings
from config.settings import Settings
from supervisor.core.errors import SettingFault
from supervisor.database.open_database import open_database
from supervisor.objects.private_files import keep_to_ourselves, write_privately
from supervisor.schema.migrate import migrate
from supervisor.security.secret import read_or_make_secret
from supervisor.store.ledger import credits
from tests.support.repository import ROOT


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def umask(wanted: int) -> Iterator[None]:
    before = os.umask(wanted)
    try:
        yield
    finally:
        os.umask(before)


def in_use(folder: Path, **more: str) -> Settings:
    """A migrated database that a connection holds open, as -wal and -shm are there only then."""
    settings = load_settings({"DARKROOM_CONFIG": "", "DARKROOM_DATA_DIR": str(folder), **more})
    migrate(settings)
    read_or_make_secret(settings)
    return settings


def beside(settings: Settings) -> dict[str, int]:
    database = open_database(settings)
    try:
        database.write_now(lambda tx: credits.ensure_account(tx, "o-1"))
        folder = Path(settings.database_url.removeprefix("sqlite:///")).parent
        return {path.name: mode(path) for path in folder.iterdir() if path.is_file()}
    finally:
        database.close()


@pytest.mark.parametrize("wanted", [0o000, 0o022, 0o077])
def test_new_files_are_private_with_any_umask(tmp_path: Path, wanted: int) -> None:
    with umask(wanted):
        settings = in_use(tmp_path / "made" / "var")
        found = beside(settings)
        write_privately(settings.data_dir / "url", "x")
    assert mode(settings.data_dir) == 0o700 and mode(settings.data_dir / "url") == 0o600
    assert {"darkroom.db", "darkroom.db-wal", "darkroom.db-shm", "secret"} <= set(found)
    assert set(found.values()) == {0o600}, found


def test_files_open_to_others_are_closed_at_a_start_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = in_use(tmp_path / "var")
    beside(settings)
    for path in (settings.data_dir / "darkroom.db", settings.data_dir / "secret"):
        path.chmod(0o644)
    strange = settings.data_dir / "of-somebody-else.txt"
    strange.write_text("x")
    strange.chmod(0o644)
    (settings.data_dir / "files").mkdir()
    (settings.data_dir / "files").chmod(0o755)
    settings.data_dir.chmod(0o755)
    caplog.set_level(logging.WARNING)
    with umask(0o022):
        keep_to_ourselves(settings)
        assert os.umask(0o077) == 0o077, "whatever is made from now on is private"
    assert [mode(settings.data_dir / name) for name in ("", "files")] == [0o700, 0o700]
    assert [mode(settings.data_dir / name) for name in ("darkroom.db", "secret")] == [0o600, 0o600]
    assert mode(strange) == 0o644, "only our own files are touched"
    said = [each.getMessage() for each in caplog.records]
    assert len(said) == 4 and all("was open to other users" in each for each in said)
    caplog.clear()
    keep_to_ourselves(settings)
    assert caplog.records == []


def test_a_public_folder_is_left_alone_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o1777)
    keep_to_ourselves(Settings(data_dir=tmp_path))
    assert mode(tmp_path) == 0o1777
    assert "set DARKROOM_DATA_DIR to one of its own" in caplog.text


def test_a_database_in_a_folder_that_is_shared_with_a_group_is_shared_with_it_and_nothing_else_is(
    tmp_path: Path,
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    with umask(0o077):
        where = {"DARKROOM_DATABASE_URL": f"sqlite:///{shared}/darkroom.db"}
        settings = in_use(tmp_path / "var", **where)
        keep_to_ourselves(settings)
        found = beside(settings)
        shm = {name: found[name] for name in ("darkroom.db", "darkroom.db-wal", "darkroom.db-shm")}
        assert set(shm.values()) == {0o660}
        with contextlib.closing(
            sqlite3.connect(shared / "darkroom.db")
        ) as producer:  # the first to come makes -wal
            producer.execute(
                "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-1', 'photography', '{}')"
            )
            producer.commit()
            assert mode(shared / "darkroom.db-wal") == 0o660
    assert mode(shared) == 0o2770
    assert mode(settings.data_dir) == 0o700 and mode(settings.data_dir / "secret") == 0o600


@pytest.mark.parametrize("command", ["migrate", "up", "web", "dispatcher"])
def test_a_data_folder_that_can_not_be_made_ends_every_part_with_one_sentence(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").touch()
    environ = {
        "PYTHONPATH": str(ROOT),
        "DARKROOM_DATA_DIR": str(tmp_path / "file" / "var"),
        "PATH": "/usr/bin:/bin",
    }
    code = [sys.executable, "-c", "from supervisor.cli.main import main; main()", command]
    done = subprocess.run(code, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "can be made and written" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_sentence_names_setting_value_and_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingFault, match=r"DARKROOM_DATA_DIR is '.*/var', but may be a folder .*\(.+\)"):
        keep_to_ourselves(Settings(data_dir=tmp_path / "file" / "var"))


SQLITE3 = shutil.which("sqlite3")


@pytest.mark.system
@pytest.mark.skipif(SQLITE3 is None and not os.environ.get("CI"), reason="there is no sqlite3 program")
def test_a_backup_by_the_documented_commands_is_as_private_as_the_original(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    commands = page.partition("## Back up and restore")[2].partition("```\n")[2].partition("```")[0]
    assert "VACUUM INTO" in commands and "cp -a" in commands
    settings = in_use(tmp_path / "var")
    (settings.data_dir / "files").mkdir()
    with umask(0o022):
        done = subprocess.run(
            ["sh", "-e", "-c", commands], cwd=tmp_path, capture_output=True, text=True, check=True
        )
    assert done.stdout.splitlines()[-1] == "ok"
    assert mode(tmp_path / "backup") == 0o700
    assert {path.name: mode(path) for path in (tmp_path / "backup").iterdir() if path.is_file()} == {
        "darkroom.db": 0o600,
        "secret": 0o600,
    }
