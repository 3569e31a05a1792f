"""From the commit of a change in this process to its bytes at an event-stream client."""

from __future__ import annotations

import http.client
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from bench.figures import Quantiles
from tests.support.running_system import RunningSystem, probe_settings, running_system

CHANGES = 200
WARM_UP = 20
PAUSE_SECONDS = (0.02, 0.12)
_BYTES_A_READ = 65_536

Execute = Callable[[str, tuple[Any, ...]], Any]


def run(changes: int = CHANGES) -> dict[str, Quantiles]:
    """{what: milliseconds}."""
    with running_system(**probe_settings()) as system:
        producer = sqlite3.connect(system.data_dir / "darkroom.db", timeout=15, isolation_level=None)
        return {"darkroom, commit to SSE client": measured(system, producer.execute, changes)}


def measured(system: RunningSystem, execute: Execute, changes: int = CHANGES) -> Quantiles:
    """Milliseconds.  execute: runs a statement with `?` and commits it."""
    task_id = _waiting_task(execute)
    stream = _Stream(system.url)
    sample = []
    for n in range(WARM_UP + changes):
        time.sleep(random.uniform(*PAUSE_SECONDS))
        mark = f"mark-{n}."
        execute("UPDATE task_queue SET stage = ? WHERE id = ?", (mark, task_id))
        committed = time.monotonic_ns()
        seen = stream.wait_for(mark)
        if n >= WARM_UP:
            sample.append((seen - committed) / 1e6)
    return Quantiles.of(sample)


def _waiting_task(execute: Execute) -> str:
    """A task of the demo user that stays pending: its time is far off."""
    (task_id,) = execute(
        """INSERT INTO task_queue (user_openid, type, params, run_after)
            VALUES ('demo', 'probe', '{"images":["https://example.com/a.jpg"]}', '2999-01-01T00:00:00.000Z')
            RETURNING id""",
        (),
    ).fetchone()
    deadline = time.monotonic() + 30
    while execute("SELECT work_id FROM task_queue WHERE id = ?", (task_id,)).fetchone()[0] is None:
        if time.monotonic() > deadline:
            raise TimeoutError("The dispatcher did not admit the bench's task.")
        time.sleep(0.01)
    return str(task_id)


class _Stream:
    """A feed, read by a thread that stamps every chunk."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname and address.port
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        connection.request("GET", "/v1/works/feed", headers={"Accept": "text/event-stream"})
        self._socket: socket.socket = connection.sock
        self._connection = connection
        self._arrived = threading.Condition()
        self._chunks: list[tuple[int, bytes]] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.wait_for("event: init")

    def _read(self) -> None:
        while chunk := self._socket.recv(_BYTES_A_READ):
            now = time.monotonic_ns()
            with self._arrived:
                self._chunks.append((now, chunk))
                self._arrived.notify()

    def wait_for(self, text: str, seconds: float = 30) -> int:
        """When bytes with this text arrived, monotonic nanoseconds; earlier chunks are let go."""
        wanted = text.encode()
        with self._arrived:
            while True:
                for n, (at, chunk) in enumerate(self._chunks):
                    if wanted in chunk:
                        del self._chunks[: n + 1]
                        return at
                if not self._arrived.wait(seconds):
                    raise TimeoutError(f"The stream did not bring {text!r}.")
