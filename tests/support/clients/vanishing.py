"""Clients of the event stream that leave at every possible moment: before, during and after the answer."""

from __future__ import annotations

import random
import socket
import struct
import time

MOMENTS = ("amid the request", "after the request", "at the first byte", "after a while")
_LINGER_RESET = struct.pack("ii", 1, 0)  # close() then resets instead of finishing


def vanish(port: int, header: str, count: int, draw: random.Random, together: int = 50) -> None:
    """Open and leave so many streams, so many at a time, half of them by a reset.  Blocks; for a thread."""
    request = f"GET /v1/works/feed HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{header}\r\n\r\n".encode()
    for start in range(0, count, together):
        clients = []
        for _ in range(min(together, count - start)):
            client = socket.create_connection(("127.0.0.1", port), timeout=30)
            moment = draw.choice(MOMENTS)
            client.sendall(request[: draw.randrange(1, len(request))] if moment == MOMENTS[0] else request)
            clients.append((client, moment))
        draw.shuffle(clients)
        for client, moment in clients:
            _leave(client, moment, draw)


def _leave(client: socket.socket, moment: str, draw: random.Random) -> None:
    if moment in MOMENTS[2:]:
        client.recv(1 if moment == MOMENTS[2] else 65_536)
    if moment == MOMENTS[3]:
        time.sleep(draw.random() / 100)
    if draw.random() < 0.5:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    elif draw.random() < 0.5:
        client.shutdown(socket.SHUT_WR)  # says that it will send no more, and is gone a moment later
    client.close()
