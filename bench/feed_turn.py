"""One turn of `bench.against`: from a commit to an event-stream client of one build on one kind of database, as JSON.

Run as a program with PYTHONPATH at the tree of the build, as `bench.against_turn` is.  It measures with the build's own
`bench.feed_latency`.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any

from bench.feed_latency import measured

try:
    from tests.support.running_system import probe_settings, running_system
except ImportError:  # of a build before its helpers were moved
    from bench.running_system import (  # type: ignore[no-redef,import-not-found]
        probe_settings,
        running_system,
    )


def main() -> None:
    """The database's URL is the only argument; `sqlite` for a file of its own."""
    url = sys.argv[1]
    settings = {"DATABASE_URL": url} if url.startswith("postgres") else {}
    with running_system(**settings, **probe_settings()) as system:
        if settings:
            import psycopg

            connection = psycopg.connect(url, autocommit=True)
        else:
            connection = sqlite3.connect(system.data_dir / "darkroom.db", timeout=15, isolation_level=None)  # type: ignore[assignment]

        def execute(sql: str, params: tuple[Any, ...]) -> Any:
            return connection.execute(sql.replace("?", "%s") if settings else sql, params)  # type: ignore[arg-type]

        seen = measured(system, execute)
        connection.close()
    print(json.dumps({"commit to SSE client p50, ms": seen.p50, "commit to SSE client p99, ms": seen.p99}))


if __name__ == "__main__":
    main()
