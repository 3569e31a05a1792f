"""The two plain servers that submissions are measured beside: `python -m bench.submit_servers bare|group FOLDER`.

Both accept the same request, insert one row with the same data into a table without triggers, answer 202 when it is
durable (`synchronous=FULL`), and do nothing else: no checks, no credits, no feed, no order.  `bare` commits each
request by itself. `group` gives all waiting requests to one writer, which commits them in one transaction. In Python
nothing that stores each task durably in one SQLite file answers faster, so it is the lower bound.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from supervisor.core.ids import new_ulid

_INSERT = "INSERT INTO task (id, user, type, params) VALUES (?, ?, ?, ?)"


def open_table(path: Path) -> sqlite3.Connection:
    """A fresh table, as durable as ours."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        """CREATE TABLE task (id TEXT PRIMARY KEY NOT NULL, user TEXT NOT NULL, type TEXT NOT NULL,
            params TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'pending',
            created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))"""
    )
    return connection


def row_of(body: bytes) -> tuple[str, str, str, str]:
    """The stored part of a request."""
    order: dict[str, Any] = orjson.loads(body)
    return new_ulid(), "demo", order["type"], orjson.dumps(order["params"]).decode()


def accepted(task_id: str) -> web.Response:
    """202 with the task's id."""
    return web.Response(
        status=202,
        body=orjson.dumps({"task_id": task_id, "status": "pending"}),
        content_type="application/json",
    )


def bare_app(table: sqlite3.Connection) -> web.Application:
    """Each request is a transaction of its own."""

    async def submit(request: web.Request) -> web.Response:
        row = row_of(await request.read())
        table.execute(_INSERT, row)
        return accepted(row[0])

    return app_of(submit)


def group_app(table: sqlite3.Connection) -> web.Application:
    """All requests that wait are one transaction."""
    waiting: queue.SimpleQueue[tuple[tuple[str, str, str, str], asyncio.Future[None]]] = queue.SimpleQueue()

    def settle(futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            if not future.done():
                future.set_result(None)

    def write() -> None:
        while True:
            batch = [waiting.get()]
            while not waiting.empty():
                batch.append(waiting.get_nowait())
            table.execute("BEGIN IMMEDIATE")
            for row, _ in batch:
                table.execute(_INSERT, row)
            table.execute("COMMIT")
            futures = [future for _, future in batch]
            futures[0].get_loop().call_soon_threadsafe(settle, futures)

    async def submit(request: web.Request) -> web.Response:
        row = row_of(await request.read())
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.put((row, stored))
        await stored
        return accepted(row[0])

    threading.Thread(target=write, daemon=True).start()
    return app_of(submit)


def app_of(submit: Any) -> web.Application:
    """An application with this one handler."""
    app = web.Application()
    app.router.add_post("/v1/tasks", submit)
    return app


async def serve(app: web.Application, folder: Path) -> None:
    """Serve for ever; the address is written to `url` in the folder."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (folder / "url").write_text(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    await asyncio.Event().wait()


def main() -> None:
    """Serve until terminated."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    make = {"bare": bare_app, "group": group_app}[kind]
    asyncio.run(serve(make(open_table(folder / "tasks.db")), folder))


if __name__ == "__main__":
    main()
