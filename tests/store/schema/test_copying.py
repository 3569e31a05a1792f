"""`darkroom copy`: everything is copied from a SQLite file to PostgreSQL and works there, or nothing is changed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config.settings import Settings
from supervisor.core.errors import SettingFault
from supervisor.database.open_database import open_database
from supervisor.schema.copy.copy_database import LEFT, copy_into_postgres
from supervisor.schema.copy.copy_source import Source
from supervisor.schema.migrate import known_versions
from supervisor.store.counters import open_task_counts
from supervisor.store.ledger import provider_costs
from supervisor.store.limits import pauses
from supervisor.store.operators import audit
from supervisor.store.operators.audit import Operator
from supervisor.store.tasks import images, results, user_actions
from supervisor.store.webhooks import deliveries
from tests.conftest import PARAMS, Clock, Store
from tests.support.command_line import darkroom
from tests.support.databases import REFUSED, Plain, PlainPostgres
from tests.support.servers.postgres_databases import KEEPER, give_back, take_database
from tests.support.waiting import eventually
from tests.support.workers import complete

pytestmark = pytest.mark.sqlite_only  # the source; the target is made here

ODD = {"images": ["https://example.org/a.jpg"], "prompt": "雪 \U0001f3d4 \"'\\ \x00 \ud800"}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Settings]:
    url = take_database()
    yield Settings(data_dir=tmp_path, database_url=url)
    give_back(url)


@pytest.fixture
def source_file(settings: Settings) -> Path:
    return settings.data_dir / "darkroom.db"


@pytest.fixture
def full(
    store: Store,
    clock: Clock,
    source_file: Path,
    admitted_task: Callable[..., str],
    claimed_task: Callable[..., Any],
    handed_off_task: Callable[..., str],
    completed_task: Callable[..., str],
    failed_task: Callable[..., str],
    cancelled_task: Callable[..., str],
    pending_task: Callable[..., str],
    producer: Plain,
) -> Path:
    """A file with something of everything in it, open in no process."""
    completed_task("o-1", count=2, missing=1)
    failed_task("o-2", count=3)
    cancelled_task("o-3")
    handed_off_task("o-4")
    claimed_task("o-5")
    for n in range(3):
        admitted_task("o-6", priority=-n)
    pending_task("o-7", params=json.dumps(ODD))

    def more(tx: Any) -> None:
        audit.record(tx, Operator("o-9", "operator"), "pause", "type", "fitting", after={"reason": "a test"})
        pauses.pause(tx, pauses.TYPE, "fitting", "o-9", "a test")
        images.add(tx, images.NewImage("i-1", "o-1", "uploads/i-1.jpg", 4, 3, 7, "0"))
        small = {"key": "results/t/1-1-0-thumbnail.webp", "width": 2, "height": 1}
        results.add(tx, "t", 1, "hash", results.ResultFile(0, "results/t/1-1-0.jpg", "0", 4, 3, small))
        results.add(tx, "t", 1, "hash", results.ResultFile(1, "results/t/1-1-1.jpg", "0", 4, 3))
        images.add(tx, images.NewImage("i-2", "o-1", "uploads/i-2.mp4", 0, 0, 7, "0", "video/mp4", "雪.mp4"))
        film = {"file": {"media_type": "video/mp4", "bytes": 7, "duration_seconds": 1.5}, "of": [2]}
        results.add(
            tx, "t", 1, "hash", results.ResultFile(10_200, "results/t/1-1-2.mp4", "0", 0, 0, about=film)
        )
        provider_costs.add(
            tx, provider_costs.ProviderCost("r-1", "t", "photography", 1, 1, 1, "far", "0.10", "USD")
        )
        deliveries.name(
            tx, [(tx.value("SELECT id FROM task_queue WHERE user_openid = 'o-4'"), "https://example.org")]
        )
        tx.execute(
            "INSERT INTO remote_job (task_id, charge, lease, provider, reference, state)"
            " VALUES ('t', 1, 1, 'far', 'r-1', 'submitting')"
        )
        tx.execute(
            "INSERT INTO remote_report (task_id, charge, lease, reference, headers, body, sha256)"
            " VALUES ('t', 1, 1, 'r-1', '{}', ?, 'x')",
            b"\x00\xff\\body\t\n",
        )
        tx.execute("INSERT INTO sweep_run (minute, counts) VALUES ('2026-01-01T00:00', '{\"failed\": 1}')")

    store.write(more)
    producer.close()
    store.database.close()
    return source_file


def copied(path: Path, target: Settings) -> dict[str, int]:
    source = Source(path, known_versions())
    try:
        return copy_into_postgres(source, target, lambda table, done, total: None).rows
    finally:
        source.close()


def plain_rows(connection: Any, table: str) -> list[dict[str, Any]]:
    """A table's rows in no order, values as Python sees them on either database."""
    cursor = connection.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, map(plain_value, row), strict=True)) for row in cursor.fetchall()]


def plain_value(value: Any) -> Any:
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, str) and value.startswith(("[", "{")):
        return json.loads(value)
    return value


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True, default=repr) for row in rows)


def is_empty(target: Settings) -> bool:
    with contextlib.closing(PlainPostgres(target.database_url)) as plain:
        for table in ("task_queue", "works", "account", "credit_entry", "work_change", "audit", "image"):
            if plain.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").fetchone() != (False,):
                return False
    return True


def test_every_row_of_every_table_arrives(full: Path, target: Settings) -> None:
    rows = copied(full, target)
    filled = {name for name, count in rows.items() if count}
    assert filled >= {
        "task_queue", "works", "credit_entry", "work_change", "task_event", "worker", "image", "remote_job",
        "remote_report", "audit", "pause", "webhook", "sweep_run", "metric", "file_walk",
    }  # fmt: skip
    odd = {"雪 \U0001f3d4 \"'\\ \ufffd \ufffd"}
    with (
        contextlib.closing(sqlite3.connect(full)) as old,
        contextlib.closing(PlainPostgres(target.database_url)) as new,
    ):
        for table in rows:
            before, after = plain_rows(old, table), plain_rows(new, table)
            for row in (*before, *after):
                if table == "account":
                    row.pop("epoch")
                if table == "task_queue" and "prompt" in row["params"]:
                    row["params"]["prompt"] = re.sub("[\x00\ud800]", "\ufffd", row["params"]["prompt"])
            assert in_order(before) == in_order(after), table
        prompts = {row["params"].get("prompt") for row in plain_rows(new, "task_queue")} - {None}
        assert prompts == odd, "what PostgreSQL has no place for is shown as such"


def test_every_table_is_copied_or_is_one_that_each_database_keeps_of_itself(
    full: Path, target: Settings
) -> None:
    rows = copied(full, target)
    with contextlib.closing(PlainPostgres(target.database_url)) as new:
        there = {
            name
            for (name,) in new.execute(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            ).fetchall()
        }
    assert there - set(rows) == (LEFT - {"wake"}) | {
        "commit_mark", "metric_delta", "task_count_delta",
    }  # fmt: skip


def test_all_work_continues_in_the_new_database(full: Path, target: Settings) -> None:
    """Guards and triggers are back, numbers right, ids above the old ones, feeds begun anew."""
    with contextlib.closing(sqlite3.connect(full)) as old:
        epochs = {row["epoch"] for row in plain_rows(old, "account")}
        (last_entry,) = old.execute("SELECT max(id) FROM credit_entry").fetchone()
    copied(full, target)
    with contextlib.closing(open_database(target)) as database:
        there = Store(target, database)
        assert not epochs & {row["epoch"] for row in there.all("SELECT epoch FROM account")}
        assert there.value("SELECT count(*) FROM account WHERE seq = 0") == 1, (
            "seqs are kept, but for who has none"
        )
        counted = there.all(
            """SELECT type, status, count(*) AS n FROM task_queue
                WHERE status IN ('pending','processing','ai_processing') GROUP BY type, status"""
        )
        assert database.read(open_task_counts.open_tasks) == {
            (row["type"], row["status"]): row["n"] for row in counted
        }
        with contextlib.closing(PlainPostgres(target.database_url)) as plain, pytest.raises(REFUSED):
            plain.execute("UPDATE task_queue SET status = 'completed' WHERE status = 'pending'")
        submitted = there.write(
            lambda tx: user_actions.submit(tx, target, user_actions.NewTask("o-6", "photography", PARAMS))
        )
        assert (
            there.value("SELECT min(id) FROM credit_entry WHERE task_id = ?", submitted["task_id"])
            > last_entry
        )
        (claim,) = [each for each in there.dispatch() if each.task_id == submitted["task_id"]]
        made = [{"key": "results/new.jpg", "width": 4, "height": 3}]
        there.write(lambda tx: complete(tx, claim.task_id, claim.lease, made))
        for user in ("o-1", "o-2", "o-6"):
            there.balance(user)
        seqs = [
            row["seq"]
            for row in there.all("SELECT seq FROM work_change WHERE user_openid = 'o-6' ORDER BY seq")
        ]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def test_the_command_copies_and_prints_a_summary(full: Path, target: Settings, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(full)) as old:
        old.executescript("ANALYZE; CREATE TABLE a_table_of_my_own (a)")
    argv = ["copy", "--from", f"sqlite:///{full}", "--to", target.database_url]
    done = darkroom(tmp_path, *argv, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["rows"]["task_queue"] == 9 and said["credits"] > 0
    assert said["left_behind"] == ["a_table_of_my_own"]
    again = darkroom(tmp_path, *argv)
    assert again.returncode == 2 and "the new database is not empty" in again.stderr


def test_a_database_in_use_is_not_copied(full: Path, target: Settings, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(full)) as somebody:
        somebody.execute("SELECT count(*) FROM task_queue").fetchone()
        done = darkroom(tmp_path, "copy", "--from", f"sqlite:///{full}", "--to", target.database_url)
    assert done.returncode == 2 and "has" in done.stderr and "Stop Darkroom" in done.stderr
    assert is_empty(target)


def test_an_old_database_a_file_of_others_and_the_wrong_direction_are_refused_with_what_to_do(
    full: Path, target: Settings, tmp_path: Path
) -> None:
    def refused(source: str, to: str = target.database_url) -> str:
        done = darkroom(tmp_path, "copy", "--from", source, "--to", to)
        assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
        return done.stderr

    assert "There is no database at" in refused(f"sqlite:///{tmp_path}/nothing.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE a (b)")
    assert "no database of Darkroom's" in refused(f"sqlite:///{tmp_path}/other.db")
    (tmp_path / "text.db").write_text("no database at all, however long this text may be")
    assert "can't be read" in refused(f"sqlite:///{tmp_path}/text.db")
    assert "copy goes from sqlite" in refused(target.database_url, f"sqlite:///{full}")
    with contextlib.closing(sqlite3.connect(full)) as old:
        old.execute("DELETE FROM migration_history WHERE name = ?", (known_versions()[-1],))
        old.commit()
    assert "run this version's `darkroom migrate` on it first" in refused(f"sqlite:///{full}")
    assert is_empty(target)


def test_a_copy_with_wrong_sums_is_refused_and_the_guards_stay(
    full: Path, target: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Source.count
    monkeypatch.setattr(Source, "count", lambda self, table: count(self, table) + (table == "works"))
    with pytest.raises(SettingFault, match="rows of works, but"):
        copied(full, target)
    assert is_empty(target)
    with contextlib.closing(PlainPostgres(target.database_url)) as plain, pytest.raises(psycopg.Error):
        plain.execute("INSERT INTO task_queue (user_openid, type, params, lease) VALUES ('o', 'a', '{}', 7)")


def test_a_copy_that_is_killed_half_way_leaves_nothing_and_may_be_made_again(
    full: Path, target: Settings, tmp_path: Path
) -> None:
    """Half-way means a table that cannot be written yet, since another session reads it; the tables before it are
    full."""
    argv = ["copy", "--from", f"sqlite:///{full}", "--to", target.database_url]
    with (
        contextlib.closing(PlainPostgres(target.database_url)) as plain,
        contextlib.closing(psycopg.connect(target.database_url)) as reader,
    ):

        def is_held_up() -> bool:
            (count,) = plain.execute(
                "SELECT count(*) FROM pg_locks WHERE relation = 'sweep_run'::regclass AND NOT granted"
            ).fetchone() or (0,)
            return bool(count)

        def is_gone() -> bool:
            (count,) = plain.execute(
                """SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name <> ?
                    AND pid NOT IN (pg_backend_pid(), ?)""",
                (KEEPER, reader.info.backend_pid),
            ).fetchone() or (1,)
            return not count

        reader.execute("LOCK TABLE sweep_run IN SHARE MODE")
        copying = subprocess.Popen(
            [sys.executable, "-c", "from supervisor.cli.main import main; main()", *argv],
            env=os.environ | {"DARKROOM_DATA_DIR": str(tmp_path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually("it has come half-way", is_held_up)
        finally:
            copying.send_signal(signal.SIGKILL)
            copying.wait()
        reader.rollback()
        eventually("the server has noticed", is_gone)
    assert is_empty(target)
    assert copied(full, target)["task_queue"] == 9
