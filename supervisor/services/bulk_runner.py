"""Runs the parts of actions on many tasks, with rests between them.  Blocks; call it in a thread.

Any process that has the database may run them, also several at once: `do_part` sees to it that each part is done once.
A part is as small, and the rest after it as long, that the writer's lock is free for others most of the time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from config.settings import Settings
from supervisor.core.errors import DatabaseBusy, OutcomeUnknown, as_sentence
from supervisor.core.throttle import REST, SHORTEST_REST_SECONDS
from supervisor.database.interface.database import Database, Transaction
from supervisor.selection.task_filter import BadFilter
from supervisor.store.operators import bulk_actions

log = logging.getLogger("darkroom")

Part = tuple[str, bulk_actions.View]

TASKS_AT_ONCE = 10
OTHERS_RUN_SECONDS = 0.5  # until another look, where another process does the parts


def run_action(
    database: Database,
    settings: Settings,
    bulk_id: str,
    stop: threading.Event,
    told: Callable[[], None] = lambda: None,
) -> None:
    """Run an action until it is done or stopped, or until `stop` is set.  told: called after each part."""
    while not stop.is_set():
        following = database.read(lambda tx: bulk_actions.next_tasks(tx, settings, bulk_id))
        if following is None:
            return
        step, tasks = following.step, following.tasks
        parts = [tasks[n : n + TASKS_AT_ONCE] for n in range(0, len(tasks), TASKS_AT_ONCE)] or [[]]
        for n, part in enumerate(parts):

            def do(tx: Transaction, step: int = step + n, part: list[Part] = part) -> tuple[bool, float]:
                began = time.monotonic()
                is_done = bulk_actions.do_part(tx, settings, bulk_id, step, part)
                return (
                    is_done,
                    time.monotonic() - began,
                )  # without the wait for the writer, which delays no other write

            is_done, seconds = database.write(do).result()
            if not is_done:
                stop.wait(OTHERS_RUN_SECONDS)
                break
            told()
            if stop.wait(max(SHORTEST_REST_SECONDS, REST * seconds)):
                return


def run_all(
    database: Database,
    settings: Settings,
    stop: threading.Event,
    failed: Callable[[str, Exception], None] = lambda _, __: None,
) -> int:
    """Run every action that has parts to do, the oldest first; how many there were.

    One whose filter this version can't read is left to processes of the version that has begun it.  One that fails
    holds no other up: the row counts that (`bulk_actions.note_failure`), and `failed` is told its id and error.  Raises
    what is no action's fault: the database is away.
    """
    waiting = database.read(bulk_actions.running)
    for bulk_id in waiting:
        try:
            run_action(database, settings, bulk_id, stop)
        except BadFilter as bad:
            log.warning("the action %s on many tasks is left to another version: %s", bulk_id, bad)
        except (DatabaseBusy, OutcomeUnknown):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the runner
            reason = as_sentence(error)
            database.write(lambda tx, i=bulk_id, r=reason: bulk_actions.note_failure(tx, i, r)).result()  # type: ignore[misc]
            failed(bulk_id, error)
    return len(waiting)
