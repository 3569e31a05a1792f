"""A worker's own list of claims, and the list beside it: pop, own, put back.

The worker waits on its event loop, so that a claim begins in the step in which the loop reads it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import redis

ANSWER_SECONDS = 10.0  # how long a frozen broker may hold a worker, unless a pop is to last longer
# An idle server ends a wait up to a second late, a busy machine adds to it; one that has not answered by then is away.
LATE_SECONDS = 3.0


class Popped(NamedTuple):
    """A popped message, as it was sent.

    unread_seconds: since the server answered the pop, by the server's clock and ours, neither of which is compared with
    the other; negative if the server's was set forward meanwhile.
    """

    sent: bytes
    unread_seconds: float


class WorkerList:
    """client: says how to connect.  key: of the list.  Every method may raise redis.RedisError or OSError."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        from supervisor.broker.broker_client import tells_its_end
        from supervisor.broker.loop_connection import LoopConnection  # workers alone need it

        self._connection, self._key, self._beside = LoopConnection(client), key, popped_of(key)
        self.tells_end = tells_its_end(client)

    async def pop(self, *, seconds: float) -> Popped | None:
        """The message in front of the list; None if none comes within so many seconds.

        Until it is owned or put back, the dispatcher may take it if it stays there too long.
        """
        asked_at = time.monotonic()
        asked, popped, answered = await self._connection.ask(
            ("TIME",),
            ("BLMOVE", self._key, self._beside, "LEFT", "RIGHT", seconds),
            ("TIME",),
            seconds=seconds + LATE_SECONDS,
        )
        if popped is None:
            return None
        waited_seconds = int(answered[0]) - int(asked[0]) + (int(answered[1]) - int(asked[1])) / 1_000_000
        return Popped(popped, time.monotonic() - asked_at - waited_seconds)

    def forget_loss(self) -> bool:
        """Whether the connection has ended since the last call while nothing was asked.  The server may have been
        restarted meanwhile, without what its lists held."""
        was_lost, self._connection.was_lost = self._connection.was_lost, False
        return was_lost

    async def own(self) -> bool:
        """Own a popped message, so that it can't be taken any more; False if it was taken.

        The question has been sent when this is awaited for the first time.
        """
        (deleted,) = await self._connection.ask(("DEL", self._beside), seconds=ANSWER_SECONDS)
        return bool(deleted)

    async def put_back(self) -> None:
        """Put popped messages back to the front of the list, unless they were taken."""
        moved: object = self
        while moved is not None:
            (moved,) = await self._connection.ask(
                ("LMOVE", self._beside, self._key, "RIGHT", "LEFT"), seconds=ANSWER_SECONDS
            )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def popped_of(key: str) -> str:
    """The key of the list beside a list."""
    return f"{key}.popped"
