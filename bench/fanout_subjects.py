"""The servers of the fan-out bench, each as a process with a way to publish one change to every user."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import orjson

from config.settings import Settings
from supervisor.database.open_database import open_database
from supervisor.schema.migrate import migrate
from supervisor.security.tokens import make_user_token
from supervisor.store.tasks import admission
from tests.support.running_system import LIFTED, REPOSITORY

SUBJECTS = ("bare", "darkroom", "sse-starlette")
START_SECONDS = 30
STOP_SECONDS = 30
_SECRET = "a secret of the bench, long enough for HS256"


class Subject(Protocol):
    """A running server.  headers: of a stream, for each user."""

    url: str
    pid: int
    headers: list[str]

    def publish(self) -> int:
        """One change for every user; when it was sent or committed, monotonic nanoseconds.  Waits for no delivery."""
        ...

    def stop(self) -> None:
        """Ask it to end."""
        ...

    def wait(self) -> float:
        """When it had ended, monotonic seconds."""
        ...


@contextlib.contextmanager
def subject_of(kind: str, users: int) -> Iterator[Subject]:
    """The server, until the block ends."""
    names = [f"o-{n}" for n in range(users)]
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name:
        folder = Path(name)
        if kind == "darkroom":
            producer = _database_with_tasks(folder, names)
            with _process([str(Path(sys.executable).with_name("darkroom")), "web"], folder) as (process, url):
                yield _Darkroom(process, url, names, producer)
            producer.close()
        else:
            command = [sys.executable, "-m", "bench.feed_servers", kind, str(folder)]
            with _process(command, folder) as (process, url):
                yield _Plain(process, url, names)


class _Server:
    """A process and its address."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self._process, self.url, self.pid = process, url, process.pid

    def stop(self) -> None:
        self._process.terminate()

    def wait(self) -> float:
        self._process.wait(STOP_SECONDS)
        return time.monotonic()


class _Darkroom(_Server):
    """Publishes as any program does: with one SQL statement."""

    def __init__(
        self, process: subprocess.Popen[bytes], url: str, users: list[str], producer: sqlite3.Connection
    ) -> None:
        super().__init__(process, url)
        self._producer, self._count = producer, 0
        tokens = (make_user_token(_SECRET, user, ttl_seconds=3600) for user in users)
        self.headers = [f"Authorization: Bearer {token}" for token in tokens]

    def publish(self) -> int:
        self._count += 1
        self._producer.execute("UPDATE task_queue SET stage = ?", (f"mark-{self._count}",))
        self._producer.commit()
        return time.monotonic_ns()


class _Plain(_Server):
    """Publishes by a request and reads its answer before it sends the next one."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, users: list[str]) -> None:
        super().__init__(process, url)
        address = urlsplit(url)
        assert address.hostname and address.port
        self._count = 0
        self.headers = [f"X-User: {user}" for user in users]
        self._users = users
        self._connection = socket.create_connection((address.hostname, address.port), timeout=START_SECONDS)

    def publish(self) -> int:
        if self._count and not self._connection.recv(65_536):
            raise RuntimeError("The server closed the connection it is published by.")
        self._count += 1
        body = orjson.dumps({user: _document(user, self._count) for user in self._users})
        begun = time.monotonic_ns()
        head = f"POST /publish HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
        self._connection.sendall(head.encode() + body)
        return begun


def _document(user: str, count: int) -> dict[str, object]:
    """As large as one of ours."""
    doc = {
        "_id": "01K0000000000000000000WORK", "task_id": "01K0000000000000000000TASK", "user_openid": user,
        "type": "photography", "status": "pending", "stage": f"mark-{count}", "progress": 0, "images": [],
        "error": None, "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.000Z",
    }  # fmt: skip
    entry = {
        "id": count, "dataType": "update", "queueType": "update", "docId": doc["_id"], "doc": doc,
        "updatedFields": {"stage": doc["stage"], "updated_at": doc["updated_at"]},
    }  # fmt: skip
    return {"id": count, "docChanges": [entry]}


def _database_with_tasks(folder: Path, users: list[str]) -> sqlite3.Connection:
    """A migrated database in which each user has one task that waits; a plain connection to it."""
    settings = Settings(data_dir=folder)
    migrate(settings)
    producer = sqlite3.connect(folder / "darkroom.db", timeout=15, check_same_thread=False)
    producer.executemany(
        """INSERT INTO task_queue (user_openid, type, params, run_after)
            VALUES (?, 'photography', '{"images":["https://example.com/a.jpg"]}', '2999-01-01T00:00:00.000Z')""",
        [(user,) for user in users],
    )
    producer.commit()
    database = open_database(settings.database_url)
    while database.write(lambda tx: admission.admit_waiting(tx, settings, 500).get().rows).result():
        pass
    database.close()
    return producer


@contextlib.contextmanager
def _process(command: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server and its address; it writes the latter to a file named `url`."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DARKROOM_")}
    environ |= LIFTED | {
        "DARKROOM_DATA_DIR": str(folder),
        "DARKROOM_PORT": "0",
        "DARKROOM_CONFIG": "",
        "DARKROOM_SECRET": _SECRET,
        "PYTHONPATH": str(REPOSITORY),
    }
    process = subprocess.Popen(command, env=environ, cwd=folder)
    try:
        file, deadline = folder / "url", time.monotonic() + START_SECONDS
        while not file.exists() or not file.read_text().endswith("\n"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The server did not start: {command}.")
            time.sleep(0.02)
        yield process, file.read_text().strip()
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)
