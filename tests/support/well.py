"""The ticks of a working dispatcher and the polls of a worker that verdicts by the clock need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervisor.remote.job_states import Word
from supervisor.store.queue import leader
from supervisor.store.queue.leader import Leadership
from supervisor.store.tasks import claims, remote_wait
from tests.conftest import Clock, Store


class Well:
    """We are well from the moment this is made; each tick that follows is in time, unless the test says otherwise."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        seen = store.database.read(leader.read)
        held = store.write(lambda tx: leader.take_over(tx, seen, "dispatcher-1"))
        assert held is not None
        self._held: Leadership = held
        self.tick(None)

    def tick(self, passed_seconds: float | None) -> bool:
        """Whether the time in which we are well begins with this tick.  None: the dispatcher has just begun."""
        shown = self._store.write(lambda tx: leader.renew(tx, self._held, passed_seconds))
        assert shown is not None
        return shown.is_anew

    def passes(self, seconds: float) -> None:
        """So much time passes, and the dispatcher ticks all the while."""
        self._clock.advance(seconds)
        self._store.write(lambda tx: tx.execute(f"UPDATE dispatcher SET ticked_at = {tx.now}"))


def claim_poll(tx: Any, task_id: str, worker: str = "worker-1", again_in_seconds: float = 300) -> int:
    """Claim the poll of a task, as the dispatcher does once it is due; the lease."""
    (row,) = remote_wait._claim_polls(tx, [claims.Wanted(task_id, worker, again_in_seconds)])
    return int(row["lease"])


def ask(
    write: Callable[..., Any],
    task_id: str,
    word: Word = Word.SAID,
    *,
    worker: str = "worker-1",
    poll_in_seconds: float = 0,
) -> None:
    """A live worker asks the task's service once and hears that the job goes on, or nothing."""

    def poll(tx: Any) -> None:
        remote_wait.not_yet(tx, task_id, claim_poll(tx, task_id, worker), poll_in_seconds, word=word)

    write(poll)
