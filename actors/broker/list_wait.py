"""Waits until a list in the broker holds something, without taking it out.

The server moves the head of the list to where it is, as soon as there is one.  So all who wait at a list wake at its
next message, from whatever producer, and one of them fetches it.  A wait may be long, because a stop ends it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import redis

from supervisor.broker.broker_client import tells_its_end
from supervisor.broker.worker_list import LATE_SECONDS
from supervisor.database.interface.wakeups import readable


class ListWait:
    """The waits of one thread.  client: its connections are used for nothing else."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.tells_end = tells_its_end(client)
        self._connection: Any = None
        self._told_read, self._told_write = os.pipe()
        os.set_blocking(self._told_read, False)
        os.set_blocking(self._told_write, False)

    def until_filled(self, key: str, seconds: float) -> bool:
        """Whether the list holds something, within so many seconds; False at once after `interrupt`.

        Raises redis.RedisError, OSError.
        """
        if self._connection is None:
            self._connection = self._client.connection_pool.get_connection()
        elif self._connection.is_connected and readable(self._descriptors()[:1], 0):
            self._connection.disconnect()  # the server closes what was idle for long; the next command opens another
        try:
            self._connection.send_command("BLMOVE", key, key, "LEFT", "LEFT", seconds)
            ready = readable(self._descriptors(), seconds + LATE_SECONDS)
            if self._told_read not in ready:
                if not ready:
                    raise redis.TimeoutError("The broker did not end a wait.")
                return self._connection.read_response() is not None
        except BaseException:
            self._connection.disconnect()
            raise
        self._connection.disconnect()  # the server forgets this wait; it has taken nothing
        self._forget_interrupts()
        return False

    def pause(self, seconds: float) -> None:
        """Wait so long, or until `interrupt`."""
        if readable((self._told_read,), seconds):
            self._forget_interrupts()

    def interrupt(self) -> None:
        """End the wait of the other thread, or else its next one, at once."""
        with contextlib.suppress(OSError):  # the pipe is full, or it was closed
            os.write(self._told_write, b"x")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.disconnect()
        self._client.close()

    def __del__(self) -> None:
        os.close(self._told_read)
        os.close(self._told_write)

    def _descriptors(self) -> tuple[int, int]:
        return self._connection._sock.fileno(), self._told_read  # redis-py tells it nowhere else

    def _forget_interrupts(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._told_read, 64):
                pass
