"""The same as `submit_throughput` on PostgreSQL, all three kinds of server on the same one."""

from __future__ import annotations

from bench import submit_throughput
from bench.peers.running import new_database
from bench.postgres_server import postgres_server


def run() -> dict[str, str]:
    """{what: requests/s, median of the rounds, and latencies of all rounds}."""
    with postgres_server() as server:
        return submit_throughput.compared(lambda name: new_database(server, name))
