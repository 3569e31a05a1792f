"""The three jobs that every queue is measured with."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable

Producer = Callable[[str, int], None]  # (a job's name, how many)

PROBE = "PEER_PROBE"  # the datagram socket that learns when a probe is reached
WAIT_SECONDS = 2.0
NAMES = ("noop", "probe", "wait")


async def noop() -> None:
    """Nothing at all."""


async def probe() -> None:
    """Say when the job's first line was reached."""
    reached = time.monotonic_ns()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(f"peer {reached}".encode(), os.environ[PROBE])


async def wait() -> None:
    """What a call to an AI service is to a queue."""
    await asyncio.sleep(WAIT_SECONDS)
