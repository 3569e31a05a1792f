"""A real PgBouncer in transaction mode before the test server, on a socket of its own; may be restarted there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

from supervisor.processes.parent_death import die_with_parent
from tests.support.waiting import eventually

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
PORT = 6432
SERVER_CONNECTIONS = 4  # for all clients of a database, so that they take turns on each
CONFIGURATION = """
[databases]
* = host={server} port={port} user=darkroom

[pgbouncer]
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 400
listen_addr =
listen_port = {own_port}
unix_socket_dir = {folder}
auth_type = any
pidfile = {folder}/pid
"""


class PgBouncer:
    """Started by `start`.  server_folder, port: of the server's socket.  more: lines of its configuration."""

    def __init__(self, server_folder: Path, port: int, more: str = "") -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="dr-bouncer-"))
        self._folder.chmod(0o755)
        self._user = "nobody" if os.geteuid() == 0 else None  # it does not run as root
        (self._folder / "ini").write_text(
            CONFIGURATION.format(
                server=server_folder, port=port, pool=SERVER_CONNECTIONS, own_port=PORT, folder=self._folder
            )
            + more
        )
        if self._user:
            shutil.chown(self._folder, self._user)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """The address of a database through this pooler."""
        return f"postgresql://darkroom@/{database}?host={self._folder}&port={PORT}"

    def start(self) -> None:
        """Takes connections when this returns."""
        self.start_without_looking()
        eventually("the pooler takes connections", self._takes_connections)

    def start_without_looking(self) -> None:
        """Returns at once; for a pooler that takes connections with TLS alone."""
        assert PGBOUNCER is not None
        parent = os.getpid()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [PGBOUNCER, self._folder / "ini"],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                user=self._user,
                preexec_fn=lambda: die_with_parent(parent),
            )

    def stop(self) -> None:
        """At once: every client loses its connection, in the middle of whatever it did."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _takes_connections(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self._said()
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-2000:]
