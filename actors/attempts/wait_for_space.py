"""Waiting for space: a paid result is kept until there is room for it, on disk or in a bucket.

While a disk is full, the attempt keeps its lease and its slot, its stage says what it waits for, and its time limit and
deadline are paused.  The data that it holds meanwhile is limited: the bytes of one answer for each slot, or files in
its scratch folder.  A poll has no slot, so it holds only files; results without room stay at the service and are
fetched again later.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import structlog

from actors.attempts.time_limit import standing_still
from supervisor.core.errors import Fault, StoreAway
from supervisor.objects.disk_space import WAITING, WAITING_FOR_THE_STORE, is_full
from supervisor.store.tasks import claims

if TYPE_CHECKING:
    from actors.worker.worker import Running, Worker
    from supervisor.core.claim import Claim

AGAIN_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)  # and ten more each time
SAID_AGAIN_SECONDS = 60.0  # the interval at which the deadline is moved
FURTHER_SECONDS = 120.0  # beyond what the attempt may take anyway

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Room:
    """The waiting of one attempt or poll.

    limit_seconds: how long it may go on once there is room.  waits: called with each stage before it is written.
    """

    def __init__(
        self,
        worker: Worker,
        running: Running,
        claim: Claim,
        *,
        limit_seconds: float,
        waits: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self._worker, self._running, self._claim = worker, running, claim
        self._limit_seconds, self._waits = limit_seconds, waits

    async def when_there_is(self, act: Callable[[], Awaitable[T]]) -> T:
        """The result of the act, which is repeated while a disk is full."""
        return await self._until_done(act, is_full)

    async def when_stored(self, act: Callable[[], Awaitable[T]]) -> T:
        """The result of the act, which is repeated while the file store is full or unreachable."""
        return await self._until_done(act, lambda error: isinstance(error, StoreAway) or is_full(error))

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """The block stores a paid result: neither the time limit nor a missed beat ends it."""
        was, self._running.keeps_what_was_paid = self._running.keeps_what_was_paid, True
        try:
            with standing_still() if self._running.takes_slot else contextlib.nullcontext():
                yield
        finally:
            self._running.keeps_what_was_paid = was

    async def _until_done(
        self, act: Callable[[], Awaitable[T]], passes: Callable[[BaseException], bool]
    ) -> T:
        try:
            return await act()
        except (StoreAway, OSError) as error:
            if not passes(error):
                raise
            fault: Exception = error
        pauses, said_at = iter(AGAIN_SECONDS), -SAID_AGAIN_SECONDS
        with self.keeping():
            while True:
                if time.monotonic() - said_at >= SAID_AGAIN_SECONDS:
                    log.warning("waits_for_room", task=self._claim.task_id, reason=str(fault))
                    if await self._stand_still(WAITING if is_full(fault) else WAITING_FOR_THE_STORE):
                        said_at = time.monotonic()
                await asyncio.sleep(next(pauses, AGAIN_SECONDS[-1]))
                try:
                    return await act()
                except (StoreAway, OSError) as error:
                    if not passes(error):
                        raise
                    fault = error

    async def _stand_still(self, stage: str) -> bool:
        """Show the reason, and move the deadline; False if the database can't be written either."""
        claim, seconds = self._claim, self._limit_seconds + FURTHER_SECONDS
        self._waits(stage)
        try:
            await self._worker.database.write_async(
                lambda tx: claims.stand_still(tx, claim.task_id, claim.lease, stage, seconds),
                order_key=claim.task_id,
            )
        except Fault as fault:
            log.warning("wait_not_shown", task=claim.task_id, reason=str(fault))
            return False
        return True
