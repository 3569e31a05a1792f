"""TLS in front of a server that has none: from outside it looks like a load balancer or a Valkey with TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import trustme


@contextlib.contextmanager
def tls_in_front_of(address: tuple[str, int], folder: Path) -> Iterator[tuple[int, Path]]:
    """(port on localhost, file of the authority that signed its certificate)."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listening, context, address), daemon=True).start()
    try:
        yield listening.getsockname()[1], trusted
    finally:
        listening.close()


def _accept(listening: socket.socket, context: ssl.SSLContext, address: tuple[str, int]) -> None:
    with contextlib.suppress(OSError):  # it was closed
        while True:
            raw, _ = listening.accept()
            threading.Thread(target=_serve, args=(raw, context, address), daemon=True).start()


def _serve(raw: socket.socket, context: ssl.SSLContext, address: tuple[str, int]) -> None:
    """One connection.  Two threads read and write one TLS object, each in one direction, which OpenSSL bears."""
    with (
        contextlib.suppress(OSError),
        raw,
        context.wrap_socket(raw, server_side=True) as inside,
        socket.create_connection(address) as outside,
    ):
        threading.Thread(target=_copy, args=(outside, inside), daemon=True).start()
        _copy(inside, outside)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
