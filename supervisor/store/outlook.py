"""What the pick must know before it looks at any task, asked in one go: free slots, types that may run, and those
that have ready tasks."""

from __future__ import annotations

from config.settings import Settings
from supervisor.database import Asked, Transaction
from supervisor.store import heads, pauses, providers


class Outlook:
    """Asked when it is made, answered when it is read; all of one moment, if nothing is written in between."""

    def __init__(self, tx: Transaction, settings: Settings) -> None:
        self._tx, self._settings = tx, settings
        self._free = _ask_free_slots(tx)
        self._down = providers.ask_down(tx)
        self._paused = pauses.ask_names(tx, pauses.TYPE)
        self._types = list(settings.tasks)
        self._ready = heads.ask_types(tx, self._types)

    def free_slots(self) -> int:
        """Slots of live workers, less what they hold or report busy, less what was dispatched and not claimed."""
        return int(self._free.value())

    def rooms(self) -> dict[str, int]:
        """{type: how many more of its tasks may run}; without those that nothing bounds.

        Types that are paused, or whose providers are full or down, have none: a claim would only be put back.
        """
        rooms = providers.rooms(self._tx, self._settings, self._down)
        return rooms | dict.fromkeys(pauses.names(self._tx, pauses.TYPE, self._paused), 0)

    def types_with_ready_tasks(self) -> list[str]:
        """In the order of the settings."""
        return heads.types_with_ready_tasks(self._tx, self._types, self._ready)


def free_slots(tx: Transaction) -> int:
    """As `Outlook.free_slots`."""
    return int(_ask_free_slots(tx).value())


def _ask_free_slots(tx: Transaction) -> Asked:
    taken = tx.greatest("busy", "held")
    # One statement, so one moment: a claim in between would be counted in neither half.
    # Of two conditions on the status the first names a partial index, which the planner does not see to be implied.
    return tx.ask(
        f"""SELECT (SELECT coalesce(sum({tx.greatest("0", f"slots - {taken}")}), 0) FROM
            (SELECT worker.slots, worker.busy, (SELECT count(*) FROM task_queue WHERE task_queue.worker_id = worker.id
                AND status IN ('processing','ai_processing') AND status = 'processing') AS held
             FROM worker WHERE worker.state = 'live') AS present)
            - (SELECT count(*) FROM task_queue WHERE status IN ('pending','ai_processing')
               AND status = 'pending' AND dispatched_at IS NOT NULL
               AND (run_after IS NULL OR run_after <= {tx.now}))"""
    )
