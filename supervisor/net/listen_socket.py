"""The socket on which web serves.

`darkroom up` opens it and passes it to each web process that it starts.  So clients wait, and are not refused, while
one web process replaces another, and two may serve at the same time.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping

from supervisor.core.errors import NotReady, SettingFault

VARIABLE = "WEB_LISTEN_FD"  # names the descriptor; it is no setting
BACKLOG = 1024


def inherited(environ: Mapping[str, str]) -> socket.socket | None:
    """The socket that this process inherited."""
    number = environ.get(VARIABLE, "")
    try:
        if not number.isdecimal() or not stat.S_ISSOCK(os.fstat(int(number)).st_mode):
            return None
        listening = socket.socket(fileno=int(number))
    except OSError:
        return None
    listening.set_inheritable(False)
    listening.setblocking(False)
    return listening


def listen_on(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 picks a free one.

    Raises SettingFault if the address can't be used; NotReady if this host does not have it yet.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)  # two servers may bind with SO_REUSEADDR, but only one may listen
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingFault(
                f"Port {port} of {host} is taken by another program; set DARKROOM_PORT."
            ) from None
        reason = error.strerror or str(error)
        passes = error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror)
        raise (NotReady if passes else SettingFault)(
            f"{host} port {port} can't be listened on ({reason}); set DARKROOM_HOST."
        ) from None
    listening.setblocking(False)
    return listening
