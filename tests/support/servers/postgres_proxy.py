"""A proxy to a PostgreSQL server that can cut the connection at a chosen moment and drop notifications.

It plays the part of a network or a pooler; client and server are the real ones.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

# The last messages of a writing transaction begin with its mark, which after some time goes by a name.
MARK = b"\0INSERT INTO commit_mark"
NAMED_MARK = re.compile(rb"P....(\w+)" + MARK, re.DOTALL)
COMMITTED = b"C\0\0\0\x0bCOMMIT\0"
SOCKET = ".s.PGSQL.5432"
NOTIFICATION = b"A"


class PostgresProxy:
    """Passes everything on, unless `cut` says otherwise. cut: called at each COMMIT, in order: None passes it on;
    'before' cuts the connection instead; 'after' passes it on, waits for the server's answer and then cuts the
    connection.
    """

    def __init__(self, url: str) -> None:
        self._server = url.partition("host=")[2].partition("&")[0]
        self._folder = Path(tempfile.mkdtemp(prefix="darkroom-wire-"))
        self.url = url.replace(f"host={self._server}", f"host={self._folder}")
        self.cut: Callable[[], str | None] = lambda: None
        self.refuses = False
        self.swallows_notifications = False
        self._open: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self._folder / SOCKET))
        self._listening.listen()
        assert urlsplit(url).scheme == "postgresql"
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut_all()
        shutil.rmtree(self._folder, ignore_errors=True)

    def cut_all(self) -> None:
        """Cut every connection there is."""
        while self._open:
            _cut(self._open.pop())

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.refuses:
                    client.close()
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(f"{self._server}/{SOCKET}")
                self._open += [client, server]
                is_doomed = threading.Event()
                for target, arguments in (
                    (self._to_server, (client, server, is_doomed)),
                    (self._to_client, (client, server, is_doomed)),
                ):
                    threading.Thread(target=target, args=arguments, name="wire", daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, is_doomed: threading.Event) -> None:
        name: bytes | None = None
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if given := NAMED_MARK.search(data):
                    name = given[1]
                is_unnamed = given is None and MARK in data
                is_commit = is_unnamed or (name is not None and b"\0" + name + b"\0" in data)
                verdict = self.cut() if is_commit else None
                if verdict == "before":
                    break
                if verdict == "after":
                    is_doomed.set()
                server.sendall(data)
        _cut(client)
        _cut(server)

    def _to_client(self, client: socket.socket, server: socket.socket, is_doomed: threading.Event) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if is_doomed.is_set() and COMMITTED in data:
                    break
                if self.swallows_notifications:
                    data, rest = _without_notifications(rest + data)
                client.sendall(data)
        _cut(client)
        _cut(server)


def _cut(side: socket.socket) -> None:
    with contextlib.suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
    side.close()


def _without_notifications(data: bytes) -> tuple[bytes, bytes]:
    """The whole messages but notifications, and the beginning of the next."""
    kept, place = b"", 0
    while place + 5 <= len(data):
        end = place + 1 + struct.unpack_from("!i", data, place + 1)[0]
        if end > len(data):
            break
        if data[place : place + 1] != NOTIFICATION:
            kept += data[place:end]
        place = end
    return kept, data[place:]
