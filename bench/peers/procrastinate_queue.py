"""procrastinate: `python -m bench.peers.procrastinate_queue DSN` is one worker process."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator

import procrastinate

from bench.peers import jobs
from bench.peers.jobs import Producer

OPEN = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
CONCURRENCY = 250


def _app(dsn: str) -> procrastinate.App:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))
    for name in jobs.NAMES:
        app.task(name=name)(getattr(jobs, name))
    return app


def prepare(dsn: str) -> None:
    """Make its tables."""

    async def install() -> None:
        async with _app(dsn).open_async() as app:
            await app.schema_manager.apply_schema_async()

    asyncio.run(install())


@contextlib.contextmanager
def producer(dsn: str) -> Iterator[Producer]:
    """Puts in so many jobs of a name, as fast as it can, on an open pool."""
    with asyncio.Runner() as runner:
        app = _app(dsn)
        runner.run(app.connector.open_async())

        async def put(name: str, count: int) -> None:
            await app.tasks[name].batch_defer_async(*({} for _ in range(count)))

        yield lambda name, count: runner.run(put(name, count))
        runner.run(app.connector.close_async())


async def _work(dsn: str) -> None:
    async with _app(dsn).open_async() as app:
        print("ready", flush=True)
        await app.run_worker_async(concurrency=CONCURRENCY)


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
