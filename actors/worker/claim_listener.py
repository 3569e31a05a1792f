"""Waits at one list of this worker, on its event loop, and begins the claims that come.

Nothing is popped while no slot is free.  The claims of a popped message are begun at once, and then the message is
owned; before that, the dispatcher takes it if it stays for a second, and puts its claims back.  So if a message reaches
a process that stands still, or whose event loop is held, its claims are not begun when the loop reads it at last: it
returns to the list, unless it was taken, and is popped again.  If two processes believe that they have a claim, the row
decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from actors.broker.consumer import BROKER_AWAY
from supervisor.broker.broker_errors import in_words
from supervisor.broker.signed_claims import ClaimMessage
from supervisor.broker.worker_list import ANSWER_SECONDS, LATE_SECONDS

if TYPE_CHECKING:
    from supervisor.broker.claim_lists import ClaimLists

log = structlog.get_logger(__name__)

# One wait at the list: no longer than a worker may be held by a broker that has vanished.
POP_SECONDS = ANSWER_SECONDS - LATE_SECONDS
LOCAL_POP_SECONDS = 60.0  # the same at a server that tells its end
OURS_SECONDS = 1.0  # from the answer to a pop: for so long its message is not taken
# A message that seems to be read so long before its answer came: the server's clock was set.
CLOCK_STEP_SECONDS = 0.1
AGAIN_SECONDS = 0.5  # while the broker is away


class ClaimListener:
    """take: called with each message.  has_room: set while a message may be popped.

    came_back: called when claims may have been added or taken without a message.
    """

    def __init__(
        self,
        lists: ClaimLists,
        kind: str,
        worker_id: str,
        *,
        take: Callable[[ClaimMessage], None],
        has_room: asyncio.Event,
        came_back: Callable[[], None],
    ) -> None:
        self._lists, self._kind, self._worker_id = lists, kind, worker_id
        self._list = lists.of_worker(kind, worker_id)
        self._take, self._has_room, self._came_back = take, has_room, came_back
        self._is_away = False
        self._is_unsure = False  # whether a popped message is beside the list

    async def listen(self) -> None:
        """Listen until it is cancelled: the connection is closed then, and nothing more is popped."""
        try:
            while True:
                await self._has_room.wait()
                try:
                    await self._pop_once()
                except BROKER_AWAY as error:
                    await self._wait_for(error)
                except Exception:  # without this nothing would be popped again
                    log.exception("claim_listener_failed", worker=self._worker_id)
                    await asyncio.sleep(AGAIN_SECONDS)
        finally:
            self._list.close()

    async def _pop_once(self) -> None:
        if self._is_unsure:
            await self._list.put_back()
            self._is_unsure = False
            self._note_presence()  # not after the wait: claims whose messages were lost begin now
        if self._list.forget_loss():
            self._came_back()
        popped = await self._list.pop(seconds=LOCAL_POP_SECONDS if self._list.tells_end else POP_SECONDS)
        if popped is None:
            return
        is_ours = -CLOCK_STEP_SECONDS < popped.unread_seconds < OURS_SECONDS
        if not is_ours or not self._has_room.is_set():
            await self._list.put_back()
            return
        message = self._lists.opened(self._kind, self._worker_id, popped.sent)
        if message is None:
            log.warning("message_refused", worker=self._worker_id, reason="no key of ours has signed it")
            await self._list.own()
        else:
            self._take(message)
            await self._own()

    async def _own(self) -> None:
        """Own the message whose claims were begun; if it was taken, or if that is unknown, the rows are read."""
        is_ours = False
        try:
            is_ours = await self._list.own()
        finally:
            if not is_ours:
                self._came_back()

    async def _wait_for(self, error: Exception) -> None:
        """Wait while the broker is away."""
        self._is_unsure = True
        if not self._is_away:
            self._is_away = True
            log.warning("broker_away", worker=self._worker_id, reason=in_words(error))
        await asyncio.sleep(AGAIN_SECONDS)

    def _note_presence(self) -> None:
        if self._is_away:
            self._is_away = False
            log.info("broker_back", worker=self._worker_id)
            self._came_back()
