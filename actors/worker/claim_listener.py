"""The thread that waits at one list of this worker, and passes messages to the event loop.

Nothing is popped while no slot is free or while the event loop does not answer.  The claims of a popped message are
begun at once, and then the message is owned; before that, the dispatcher takes it if it stays for a second, and puts
its claims back.  So if a message reaches a process that was frozen meanwhile, its claims are not begun: it returns to
the list, unless it was taken, and is popped again.  The same happens if the loop does not accept a message in time.  If
two processes believe that they have a claim, the row decides.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from actors.broker.consumer import BROKER_AWAY
from actors.broker.list_wait import LATE_SECONDS
from supervisor.broker.broker_client import SOCKET_TIMEOUT_SECONDS
from supervisor.broker.broker_errors import in_words
from supervisor.broker.signed_claims import ClaimMessage

if TYPE_CHECKING:
    import asyncio

    from supervisor.broker.claim_lists import ClaimLists

log = structlog.get_logger(__name__)

# One wait at the list.  It may end so late that it is still below the client's time-out.
POP_SECONDS = SOCKET_TIMEOUT_SECONDS - LATE_SECONDS
ROOM_SECONDS = 0.9  # one wait for a free slot, or for the event loop
OURS_SECONDS = 1.0  # from the answer to a pop: for so long its message is not taken
# A message that seems to be read so long before its answer came: the server's clock was set.
CLOCK_STEP_SECONDS = 0.1
TAKE_OVER_SECONDS = 0.5  # the time for the loop to accept a popped message
AGAIN_SECONDS = 0.5  # while the broker is away


class _Handed:
    """A message on its way to the loop, until the loop accepts it or the thread takes it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_settled = False
        self.is_answered = threading.Event()

    def settle(self) -> bool:
        """True for the first caller."""
        with self._lock:
            is_first, self._is_settled = not self._is_settled, True
        return is_first


class ClaimListener:
    """take: called on the loop with each message.  has_room: set while a message may be popped.

    came_back: called on the loop when claims may have been added or taken without a message.
    """

    def __init__(
        self,
        lists: ClaimLists,
        kind: str,
        worker_id: str,
        loop: asyncio.AbstractEventLoop,
        *,
        take: Callable[[ClaimMessage], None],
        has_room: threading.Event,
        came_back: Callable[[], None],
    ) -> None:
        self._lists, self._kind, self._worker_id, self._loop = lists, kind, worker_id, loop
        self._take, self._has_room, self._came_back = take, has_room, came_back
        self._ending = threading.Event()
        self._is_away = False
        self._is_unsure = False  # whether a popped message is beside the list
        self._unanswered: _Handed | None = None
        self.thread = threading.Thread(target=self._run, name=f"claims-{kind}", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def end(self) -> None:
        """Pop nothing more; a waiting pop ends within POP_SECONDS, and its message goes back."""
        self._ending.set()

    @property
    def has_died(self) -> bool:
        """Whether its thread ended without a stop."""
        return self.thread.ident is not None and not self.thread.is_alive() and not self._ending.is_set()

    def _run(self) -> None:
        while not self._ending.is_set():
            if not self._has_room.wait(ROOM_SECONDS) or not self._loop_answers():
                continue
            try:
                if self._is_unsure:
                    self._put_back()
                    self._is_unsure = False
                    self._note_presence()  # not after the wait: claims whose messages were lost begin now
                popped = self._lists.pop(self._kind, self._worker_id, seconds=POP_SECONDS)
                if popped is None:
                    continue
                is_ours = -CLOCK_STEP_SECONDS < popped.unread_seconds < OURS_SECONDS
                if is_ours and self._has_room.is_set():
                    self._hand_over(popped.sent)
                else:
                    self._put_back()
            except BROKER_AWAY as error:
                self._is_unsure = True
                self._note_absence(error)
            except Exception:
                if not self._ending.is_set():
                    raise
                return  # the process ends, and closed the client while the pop waited

    def _loop_answers(self) -> bool:
        """Whether the loop has answered the last call."""
        if self._unanswered is None or self._unanswered.is_answered.wait(ROOM_SECONDS):
            self._unanswered = None
            return True
        return False

    def _hand_over(self, sent: bytes) -> None:
        message = self._lists.opened(self._kind, self._worker_id, sent)
        if message is None:
            log.warning("message_refused", worker=self._worker_id, reason="no key of ours has signed it")
            self._lists.own(self._kind, self._worker_id)
            return
        handed = _Handed()

        def take_over() -> None:
            handed.is_answered.set()
            if handed.settle():
                self._take(message)

        if not self._ending.is_set():
            with contextlib.suppress(RuntimeError):  # the loop is closed: this process ends
                self._loop.call_soon_threadsafe(take_over)
                if handed.is_answered.wait(TAKE_OVER_SECONDS) or not handed.settle():
                    self._own()
                    return
                self._unanswered = handed
                log.warning("claims_put_back", worker=self._worker_id, reason="the event loop is held")
        self._put_back()

    def _own(self) -> None:
        """Own the accepted message; if it was taken, or if that is unknown, the rows are read."""
        is_ours = False
        try:
            is_ours = self._lists.own(self._kind, self._worker_id)
        finally:
            if not is_ours:
                self._tell(self._came_back)

    def _put_back(self) -> None:
        self._lists.put_back(self._kind, self._worker_id)

    def _tell(self, listens: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: this process ends
            self._loop.call_soon_threadsafe(listens)

    def _note_presence(self) -> None:
        if self._is_away:
            self._is_away = False
            log.info("broker_back", worker=self._worker_id)
            self._tell(self._came_back)

    def _note_absence(self, error: Exception) -> None:
        if not self._is_away and not self._ending.is_set():
            self._is_away = True
            log.warning("broker_away", worker=self._worker_id, reason=in_words(error))
        self._ending.wait(AGAIN_SECONDS)
