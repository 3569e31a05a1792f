"""Fill a new database with tasks in every state, and print it as SQL: the source of `tests/upgrade/*.sql.gz`.

Run with the code of the release that the dump represents, before its successor changes the schema:

    export PYTHONPATH=<that release>
    python tests/upgrade/fill.py sqlite | gzip -9n > <its last migration>-sqlite.sql.gz
    python tests/upgrade/fill.py postgresql | gzip -9n > <its last migration>-postgresql.sql.gz
"""

from __future__ import annotations

import contextlib
import inspect
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from config.settings import Settings
from supervisor.database.interface.database import Transaction
from supervisor.database.open_database import open_database
from supervisor.schema.migrate import migrate
from supervisor.store.queue import workers
from supervisor.store.tasks import claims, user_actions

WORKER, IMAGE, USERS, TASKS = "old-worker", "old-image", 4, 48
# of each claim: the latest time in the dump, by which its reader knows when it was made
DEADLINE_SECONDS = 86_400


def main() -> None:
    """See the module."""
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[1] == "sqlite":
            settings = Settings(data_dir=Path(folder))
            fill(settings)
            with contextlib.closing(sqlite3.connect(Path(folder) / "darkroom.db")) as connection:
                print("\n".join(connection.iterdump()))
            return
        from tests.support.servers.postgres_server import server

        own = server()
        name = own.create_database()
        fill(Settings(data_dir=Path(folder), database_url=own.url(name)))
        dump = [own._programs / "pg_dump", "--inserts", "--no-owner", "--dbname", own.url(name)]
        said = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
        print("\n".join(line for line in said.splitlines() if line and line[:2] not in ("--", "\\r", "\\u")))


def fill(settings: Settings) -> None:
    """Of 48 tasks 8 are completed, 4 failed, 4 cancelled, 8 processing, 12 dispatched; 12 wait, 4 not admitted."""
    migrate(settings)
    limits = settings.limits.model_copy(update={"running_tasks_per_user": 0})
    settings = settings.model_copy(update={"limits": limits})
    takes_settings = "where" in inspect.signature(open_database).parameters  # an older one takes the address
    database = open_database(settings if takes_settings else settings.database_url)

    def write(step: Any) -> Any:
        return database.write(step).result()

    for n in range(USERS):
        write(lambda tx, n=n: _upload(tx, f"o-{n}"))
    write(lambda tx: workers.register(tx, WORKER, host="old-host", pid=1, slots=36))
    order = [
        user_actions.NewTask(f"o-{n % USERS}", "photography", {"images": [f"{IMAGE}-{n % USERS}"]})
        for n in range(TASKS - 4)
    ]
    for new in order:
        write(lambda tx, new=new: user_actions.submit(tx, settings, new))
    ready = write(lambda tx: tx.all("SELECT id FROM task_queue WHERE ready = 1 ORDER BY id LIMIT 24"))
    for n, row in enumerate(ready):
        wanted = [claims.Wanted(row["id"], WORKER, DEADLINE_SECONDS)]
        held = claims.claim_of(write(lambda tx, wanted=wanted: claims.claim_for(tx, wanted).get())[0])
        if n < 8:
            made = [{"key": f"results/{held.task_id}/1.jpg", "width": 1, "height": 1}]
            write(
                lambda tx, held=held, made=made: claims.complete_all(
                    tx, [claims.Made(held.task_id, held.lease, made)]
                )
            )
        elif n < 12:
            write(
                lambda tx, held=held: claims.fail(tx, held.task_id, held.lease, "no_person_found", "Nobody.")
            )
        elif n < 16:
            write(lambda tx, held=held: user_actions.cancel(tx, held.task_id))
        else:
            write(
                lambda tx, held=held: claims.report_all(
                    tx, [claims.Report(held.task_id, held.lease, 40, "making")]
                )
            )
    for n in range(4):
        write(lambda tx, n=n: _by_sql(tx, f"o-{n}"))
    database.close()


def _upload(tx: Transaction, user: str) -> None:
    tx.execute(
        """INSERT INTO image (id, user_openid, key, width, height, bytes, sha256)
            VALUES (?, ?, ?, 1, 1, 100, 'unknown')""",
        f"{IMAGE}-{user[2:]}", user, f"uploads/{user}.jpg",
    )  # fmt: skip


def _by_sql(tx: Transaction, user: str) -> None:
    tx.execute(
        "INSERT INTO task_queue (user_openid, type, params) VALUES (?, 'photography', ?)",
        user, f'{{"images":["{IMAGE}-{user[2:]}"]}}',
    )  # fmt: skip


if __name__ == "__main__":
    main()
