"""What a lean process does not import, and what others find in it all the same.  Each is a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import ROOT

BEGIN = "import sys; from supervisor.processes.lean_imports import import_lean; import_lean(); "
UNWANTED = ("rich", "opentelemetry", "cryptography", "psycopg")
PARTS = {
    "web": "import web.__main__",
    "dispatcher": "import actors.dispatcher.dispatcher",
    "worker": "import actors, actors.entry.claim_handlers, actors.entry.task_actors",
    "up": "import supervisor.cli.up, playhouse.migrations",
}


def in_a_process(tmp_path: Path, code: str, **settings: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    environ |= {"DARKROOM_CONFIG": "", "DARKROOM_DATA_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environ |= {f"DARKROOM_{name}": value for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code], env=environ, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_on_sqlite_loads_nothing_that_it_does_not_use(part: str, tmp_path: Path) -> None:
    found = in_a_process(tmp_path, f"{PARTS[part]}; print([n for n in {UNWANTED} if n in sys.modules])")
    assert found == "[]"


def test_what_was_hidden_can_be_imported_afterwards_and_the_library_looks_as_ever(tmp_path: Path) -> None:
    code = """import structlog, redis, peewee
import rich, psycopg, cryptography
print(structlog.__spec__.loader is structlog.__loader__, type(structlog.__loader__).__name__, structlog.dev.rich)"""
    assert in_a_process(tmp_path, code) == "True SourceFileLoader None"


def test_on_postgresql_peewee_has_its_client(tmp_path: Path) -> None:
    code = "import peewee; print(peewee.psycopg is not None)"
    assert in_a_process(tmp_path, code) == "False"
    assert in_a_process(tmp_path, code, DATABASE_URL="postgresql://localhost/x") == "True"


def test_other_peoples_code_finds_peewee_and_jwt_with_all_that_they_import(tmp_path: Path) -> None:
    code = "import peewee, jwt.algorithms; print(peewee.psycopg is not None, jwt.algorithms.has_crypto)"
    kind = {"PROVIDERS__mine__KIND": "python", "PROVIDERS__mine__OPTIONS__class": "x:Y"}
    assert in_a_process(tmp_path, code, **kind) == "True True"


def test_where_settings_are_wrong_everything_is_imported(tmp_path: Path) -> None:
    """So that the part itself can say what is wrong."""
    code = "import peewee; print(peewee.psycopg is not None)"
    assert in_a_process(tmp_path, code, PORT="no number") == "True"
