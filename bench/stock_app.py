"""Stock Dramatiq as its documentation shows it, for comparison: `dramatiq bench.stock_app -p 2 -t 8`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker

_SERVER, _PROBE = "STOCK_SERVER", "STOCK_PROBE"


def environ_for(server: Path, probe: Path) -> dict[str, str]:
    """The environment of its workers."""
    return {**os.environ, _SERVER: str(server), _PROBE: str(probe)}


def sender(server: Path, probe: Path) -> Callable[[], object]:
    """A function that sends one message."""
    return _actor(server, probe).send


def _actor(server: Path, probe: Path) -> dramatiq.Actor[[], None]:
    broker = RedisBroker(unix_socket_path=str(server))

    def reach() -> None:
        reached = time.monotonic_ns()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(f"stock {reached}".encode(), str(probe))

    if _SERVER in os.environ:
        dramatiq.set_broker(broker)
    return dramatiq.actor(reach, broker=broker)


if _SERVER in os.environ:
    _actor(Path(os.environ[_SERVER]), Path(os.environ[_PROBE]))
