"""Ports and addresses: free ports, the written form of an address, and whether a web process answers there."""

from __future__ import annotations

import errno
import http.client
import socket

READYZ_SECONDS = 2.0


def free_port(host: str) -> int:
    """A port that is free just now.  It is chosen here, so that a restarted web keeps its address."""
    with _bound(host, 0) as probe:
        return int(probe.getsockname()[1])


def local_host(host: str) -> str:
    """Where a server that listens at `host` can be reached from here."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))


def address(host: str, port: int) -> str:
    """`http://HOST:PORT`, an IPv6 address in brackets."""
    bare = host.strip("[]")
    return f"http://[{bare}]:{port}" if ":" in bare else f"http://{bare}:{port}"


def answers_readyz(host: str, port: int) -> bool:
    """Whether the web process answers 200 to GET /readyz."""
    connection = http.client.HTTPConnection(local_host(host), port, timeout=READYZ_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def port_trouble(host: str, port: int) -> str | None:
    """Why the port can't be listened on, as the end of a sentence; None if it is free."""
    try:
        _bound(host, port).close()
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: "another program listens there already",
            errno.EADDRNOTAVAIL: f"{host} is no address of this host",
            errno.EACCES: "this user may not listen there",
        }
        return reasons.get(error.errno or 0, error.strerror or str(error))
    return None


def _bound(host: str, port: int) -> socket.socket:
    bare = host.strip("[]")
    probe = socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET, socket.SOCK_STREAM)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((bare, port))
    except BaseException:
        probe.close()
        raise
    return probe
