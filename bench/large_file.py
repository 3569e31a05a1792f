"""The memory of a worker for a result as large as a film of two gigabytes, from its service to the store.

A server on loopback streams the film; the bench reads the worker's memory many times a second. `LARGE_FILE_MEGABYTES`
is the film's size, 2000 by default.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from typing import Any

import psutil
from aiohttp import web

from tests.support.providers.made_files_provider import MP4
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.served_app import ServedApp

MEGABYTES = int(os.environ.get("LARGE_FILE_MEGABYTES", "2000"))
LOOK_SECONDS, DEADLINE_SECONDS = 0.05, 900.0
_MB = 1_000_000


class Films(ServedApp):
    """Answers an order with the address of a film of so many megabytes."""

    def __init__(self, megabytes: int) -> None:
        super().__init__()
        self._megabytes = megabytes
        self.is_small = True

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/make", self._make)
        app.router.add_get("/film.mp4", self._film)
        return app

    async def _make(self, _: web.Request) -> web.Response:
        return web.json_response({"video": {"url": f"{self.url}/film.mp4"}})

    async def _film(self, request: web.Request) -> web.StreamResponse:
        megabytes = 1 if self.is_small else self._megabytes
        response = web.StreamResponse(headers={"Content-Length": str(megabytes * _MB)})
        await response.prepare(request)
        await response.write(MP4 + b"\0" * (_MB - len(MP4)))
        for _ in range(megabytes - 1):
            await response.write(b"\0" * _MB)
        return response


class Peak:
    """The most memory that a process and its children have had at once, in bytes, while it is watched."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.bytes = self.before = self._now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _now(self) -> int:
        return sum(
            each.memory_info().rss for each in (self._process, *self._process.children(recursive=True))
        )

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.bytes = max(self.bytes, self._now())


def run(megabytes: int = MEGABYTES) -> dict[str, str]:
    """What was seen."""
    with Films(megabytes) as films, running_system(None, None, **_settings(films.url, megabytes)) as system:
        _ordered(system)  # a small one, so that the imports of the first film are not counted
        films.is_small = False
        with Peak(_worker(system)) as peak:
            began = time.monotonic()
            task = _ordered(system)
            seconds = time.monotonic() - began
        [film] = task["result"]["files"]
        assert film["bytes"] == megabytes * _MB and film["media_type"] == "video/mp4", film
    more = (peak.bytes - peak.before) / 2**20
    return {
        f"a film of {megabytes} MB, from its service to the store": f"{seconds:.1f} s",
        "the worker and its children before, at most": f"{peak.before / 2**20:.0f}, {peak.bytes / 2**20:.0f} MiB",
        "more": f"{more:.0f} MiB",
    }


def _settings(url: str, megabytes: int) -> dict[str, str]:
    return {
        "PROVIDERS__films__KIND": "http",
        "PROVIDERS__films__URL": url,
        "PROVIDERS__films__SUBMIT__URL": "/make",
        "PROVIDERS__films__SUBMIT__BODY": "{}",
        "PROVIDERS__films__FILES": '["$.video"]',
        "PROVIDERS__films__ALLOW_PRIVATE_ADDRESSES": "true",
        "PROVIDERS__films__LIMITS__FILE_BYTES": str(max(2**31, megabytes * _MB)),
        "TASKS__film": json.dumps({"provider": "films", "inputs": {"images": [0, 1]}, "outputs": ["videos"]}),
        "TASKS__film__TIME_LIMIT_SECONDS": str(DEADLINE_SECONDS),
        "WORKER_PROCESSES": "1",
    }


def _ordered(system: RunningSystem) -> dict[str, Any]:
    body = json.dumps({"type": "film", "params": {}}).encode()
    asked = urllib.request.Request(f"{system.url}/v1/tasks", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=90) as answer:
        path = json.load(answer)["urls"]["task"]
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        with urllib.request.urlopen(system.url + path, timeout=90) as answer:
            task = dict(json.load(answer))
        if task["status"] in ("completed", "failed"):
            assert task["status"] == "completed", task["error"]
            return task
        assert time.monotonic() < deadline, task
        time.sleep(0.1)


def _worker(system: RunningSystem) -> int:
    """The pid of the only process that runs attempts."""
    import sqlite3

    with sqlite3.connect(system.data_dir / "darkroom.db", timeout=15) as database:
        (pid,) = database.execute("SELECT pid FROM worker WHERE state = 'live'").fetchone()
    return int(pid)
