"""The same as `feed_latency` on PostgreSQL: from a commit by psycopg to the bytes at an event-stream client."""

from __future__ import annotations

from typing import Any

import psycopg

from bench import feed_latency
from bench.figures import Quantiles
from bench.peers.running import new_database
from bench.postgres_server import postgres_server
from tests.support.running_system import probe_settings, running_system


def run() -> dict[str, Quantiles]:
    """{what: milliseconds}."""
    with postgres_server() as server:
        dsn = new_database(server, "darkroom")
        with (
            running_system(DATABASE_URL=dsn, **probe_settings()) as system,
            psycopg.connect(dsn, autocommit=True) as producer,
        ):

            def execute(sql: str, params: tuple[Any, ...]) -> Any:
                return producer.execute(sql.replace("?", "%s"), params)  # type: ignore[arg-type]

            return {"darkroom, commit to SSE client": feed_latency.measured(system, execute)}
