"""Workers started with the plain `dramatiq` command count like those of `darkroom up`."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from config.load_settings import load_settings
from metrics.exposition import Exposition
from supervisor.core.ids import new_ulid
from supervisor.database.open_database import open_database
from supervisor.processes.parent_death import dying_with_us
from supervisor.schema.migrate import migrate
from tests.support.houses.instant_house import INSTANT
from tests.support.houses.metrics_shop import Told
from tests.support.providers.instant_provider import ONE_PIXEL
from tests.support.running_system import REPOSITORY
from tests.support.servers.broker_server import broker_server
from tests.support.waiting import eventually


@contextmanager
def program(environ: dict[str, str], *argv: str) -> Iterator[None]:
    """A command installed beside this Python, until the block ends."""
    process = subprocess.Popen(
        dying_with_us([Path(sys.executable).with_name(argv[0]), *argv[1:]]),
        env=environ,
        cwd=REPOSITORY,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def uploaded(producer: sqlite3.Connection, files: Path) -> str:
    """The id of a photo of user o-1, as an upload would have stored it."""
    (files / "uploads").mkdir(parents=True)
    (files / "uploads" / "1.jpg").write_bytes(ONE_PIXEL)
    image_id = new_ulid()
    producer.execute(
        """INSERT INTO image (id, user_openid, key, width, height, bytes, sha256)
            VALUES (?, 'o-1', 'uploads/1.jpg', 1, 1, ?, '')""",
        (image_id, len(ONE_PIXEL)),
    )
    return image_id


def test_workers_started_with_the_plain_dramatiq_command_count_too() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(broker_server())
        settings = {"DATA_DIR": str(server.folder), "BROKER_URL": server.address, "LOG_LEVEL": "warning"}
        settings |= {"WORKER_THREADS": "3", **INSTANT}
        environ = {key: value for key, value in os.environ.items() if not key.startswith("DARKROOM_")}
        environ |= {"DARKROOM_CONFIG": "", **{f"DARKROOM_{name}": value for name, value in settings.items()}}
        loaded = load_settings(environ)
        migrate(loaded)
        database = open_database(loaded)
        stack.callback(database.close)

        def scrape() -> Told:
            return Told(Exposition(loaded, database).render())

        stack.enter_context(program(environ, "darkroom", "dispatcher"))
        stack.enter_context(program(environ, "dramatiq", "actors", "-p", "1", "-t", "5"))
        eventually("the worker is told", lambda: scrape()("darkroom_workers", state="live") == 1)
        assert scrape()("darkroom_worker_slots", state="free") == 3
        with closing(sqlite3.connect(server.folder / "darkroom.db", timeout=15)) as producer:
            photo = uploaded(producer, server.folder / "files")
            producer.execute(
                "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-1', 'instant', ?)",
                (json.dumps({"images": [photo]}),),
            )
            producer.commit()
        finished = {"type": "instant", "outcome": "completed"}
        eventually("the task is counted", lambda: scrape()("darkroom_tasks_finished_total", **finished) == 1)
        told = scrape()
        assert told("darkroom_task_run_seconds_count", **finished) == 1
        assert told("darkroom_task_wait_seconds_count", type="instant") == 1
        call = {"provider": "instant", "outcome": "done"}
        eventually("the call is counted", lambda: scrape()("darkroom_ai_call_seconds_count", **call) == 1)
        assert told("darkroom_credits_total", kind="debit") == 1
