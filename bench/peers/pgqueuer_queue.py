"""pgqueuer: `python -m bench.peers.pgqueuer_queue DSN` is one worker process."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers import jobs
from bench.peers.jobs import Producer

OPEN = "SELECT count(*) FROM pgqueuer"  # a finished job leaves the table
ENQUEUED_AT_ONCE = 1000
BATCH = 100


def prepare(dsn: str) -> None:
    """Make its tables."""

    async def install() -> None:
        connection = await asyncpg.connect(dsn)
        await Queries.from_asyncpg_connection(connection).install()
        await connection.close()

    asyncio.run(install())


@contextlib.contextmanager
def producer(dsn: str) -> Iterator[Producer]:
    """Puts in so many jobs of a name, as fast as it can, on one open connection."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(dsn))
        queries = Queries.from_asyncpg_connection(connection)

        async def put(name: str, count: int) -> None:
            for start in range(0, count, ENQUEUED_AT_ONCE):
                some = min(ENQUEUED_AT_ONCE, count - start)
                await queries.enqueue([name] * some, [None] * some, [0] * some)

        yield lambda name, count: runner.run(put(name, count))
        runner.run(connection.close())


async def _work(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    queue = PgQueuer.from_asyncpg_connection(connection)

    @queue.entrypoint("noop")
    async def noop(job: Job) -> None:
        await jobs.noop()

    @queue.entrypoint("probe")
    async def probe(job: Job) -> None:
        await jobs.probe()

    @queue.entrypoint("wait")
    async def wait(job: Job) -> None:
        await jobs.wait()

    print("ready", flush=True)
    await queue.run(batch_size=BATCH, dequeue_timeout=timedelta(seconds=5))


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
