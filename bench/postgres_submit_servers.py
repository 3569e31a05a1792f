"""The plain servers of `submit_servers` on PostgreSQL: `python -m bench.postgres_submit_servers bare|group FOLDER DSN`.

`bare` inserts each request's row by itself, on a pool of connections; `group` hands all requests that wait to one
connection, which inserts them in one transaction.  Both use asyncpg, the quickest client there is in Python.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncpg
from aiohttp import web

from bench.submit_servers import accepted, app_of, row_of, serve

CONNECTIONS = 8  # as many as Darkroom opens at most

_TABLE = """CREATE TABLE task (id text PRIMARY KEY, "user" text NOT NULL, type text NOT NULL, params jsonb NOT NULL,
    status text NOT NULL DEFAULT 'pending', created_at timestamptz(3) NOT NULL DEFAULT clock_timestamp())"""
_INSERT = 'INSERT INTO task (id, "user", type, params) VALUES ($1, $2, $3, $4)'

Row = tuple[str, str, str, str]


def bare_app(pool: asyncpg.Pool) -> web.Application:
    """Each request is a transaction of its own."""

    async def submit(request: web.Request) -> web.Response:
        row = row_of(await request.read())
        await pool.execute(_INSERT, *row)
        return accepted(row[0])

    return app_of(submit)


def group_app(pool: asyncpg.Pool) -> web.Application:
    """All requests that wait are one transaction."""
    waiting: asyncio.Queue[tuple[Row, asyncio.Future[None]]] = asyncio.Queue()

    async def write() -> None:
        while True:
            batch = [await waiting.get()]
            while not waiting.empty():
                batch.append(waiting.get_nowait())
            await pool.executemany(_INSERT, [row for row, _ in batch])
            for _, stored in batch:
                if not stored.done():
                    stored.set_result(None)

    async def submit(request: web.Request) -> web.Response:
        row = row_of(await request.read())
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.put_nowait((row, stored))
        await stored
        return accepted(row[0])

    app = app_of(submit)

    async def writer(app: web.Application) -> None:
        app["writer"] = asyncio.create_task(write())

    app.on_startup.append(writer)
    return app


async def _main(kind: str, folder: Path, dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await pool.execute(_TABLE)
        make = {"bare": bare_app, "group": group_app}[kind]
        await serve(make(pool), folder)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
