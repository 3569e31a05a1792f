"""What the pick needs before it reads any task: free slots, how many more tasks of each type may run, and the types
with ready tasks.  All queries are sent in one round trip."""

from __future__ import annotations

from collections.abc import Collection

from config.settings import Settings
from supervisor.database.interface.database import PendingResult, Transaction
from supervisor.schema.tables import HELD
from supervisor.store.limits import pauses, providers
from supervisor.store.queue import ready_tasks


class Capacity:
    """The queries are sent when the object is made; each answer is read when it is needed."""

    def __init__(self, tx: Transaction, settings: Settings) -> None:
        self._tx, self._settings = tx, settings
        self._free = _ask_free_slots(tx)
        self._down = providers.ask_down(tx)
        self._paused = pauses.ask_names(tx, pauses.TYPE)
        self._types = list(settings.tasks)
        self._ready = ready_tasks.ask_types(tx, self._types)

    def free_slots_of_workers(self, shunned: Collection[str] = ()) -> dict[str, int]:
        """{worker: free slots} of the live workers that have any, without shunned workers."""
        return {
            row["id"]: row["free"] for row in self._free.all() if row["free"] > 0 and row["id"] not in shunned
        }

    def by_type(self) -> dict[str, int]:
        """{type: how many more of its tasks may run}, without types that have no limit.

        Types that are paused, or whose providers are full or down, have 0: a claim would only be put back.
        """
        rooms = providers.rooms(self._tx, self._settings, self._down)
        return rooms | dict.fromkeys(pauses.names(self._tx, pauses.TYPE, self._paused), 0)

    def types_with_ready_tasks(self) -> list[str]:
        """In the order of the settings."""
        return ready_tasks.types_with_ready_tasks(self._tx, self._types, self._ready)


def free_slots(tx: Transaction) -> int:
    """The free slots of all live workers together."""
    return sum(row["free"] for row in _ask_free_slots(tx).all() if row["free"] > 0)


def _ask_free_slots(tx: Transaction) -> PendingResult:
    return tx.ask(
        f"""SELECT id, slots - {tx.greatest("busy", "held")} AS free FROM
            (SELECT worker.id, worker.slots, worker.busy, (SELECT count(*) FROM task_queue
                WHERE task_queue.worker_id = worker.id AND {HELD}
                AND status = 'processing') AS held
             FROM worker WHERE worker.state = 'live' AND worker.takes_claims = 1) AS present"""
    )
