"""Runs the parts of actions on many tasks, with rests between them.  Blocks; call it in a thread.

Web runs them every few seconds (`web/operators/bulk_actions.py`).  Any process that has the database may do so, also
several at once: `do_part` sees to it that each part is done once.
A task that another program has locked is waited for as long as callers wait.  Then it is left out, with its reason, and
so is each that follows, as the lock may be held for hours.
A part is as small, and the rest after it as long, that the writer is free for others most of the time, and that whoever
comes meanwhile waits a few milliseconds for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from config.settings import Settings
from supervisor.core.errors import DatabaseBusy, OutcomeUnknown, RowsLocked, as_sentence
from supervisor.core.throttle import REST, SHORTEST_REST_SECONDS, next_size
from supervisor.database.interface.database import Database, Transaction
from supervisor.selection.task_filter import BadFilter
from supervisor.store.operators import bulk_actions
from supervisor.store.sql.locks import LOCKED_ROW_SECONDS

log = logging.getLogger("darkroom")

Task = tuple[str, bulk_actions.View]

TASKS_AT_ONCE = 10
# On SQLite others wait for the one writer, and a turn of theirs is 10 ms: a part that takes longer is made smaller.
HELD_SECONDS = 0.008
OTHERS_RUN_SECONDS = 0.5  # until another look, where another process does the parts


def run_action(
    database: Database,
    settings: Settings,
    bulk_id: str,
    stop: threading.Event,
    told: Callable[[], None] = lambda: None,
) -> None:
    """Run an action until it is done or stopped, or until `stop` is set.  told: called after each part."""
    at_once, waits = 1, True
    while not stop.is_set():
        following = database.read(lambda tx: bulk_actions.next_tasks(tx, settings, bulk_id))
        if following is None:
            return
        step, left = following.step, following.tasks
        while True:
            part, left = left[:at_once], left[at_once:]
            try:
                is_done, seconds = _do_part(database, settings, bulk_id, step, part, waits=waits)
            except RowsLocked:
                waits = False
                is_done, seconds = _do_part(database, settings, bulk_id, step, part, waits=False)
            if not is_done:
                stop.wait(OTHERS_RUN_SECONDS)
                break
            told()
            if stop.wait(max(SHORTEST_REST_SECONDS, REST * seconds)):
                return
            if not left:
                break
            step += 1
            at_once = next_size(at_once, seconds, within_seconds=HELD_SECONDS, most=TASKS_AT_ONCE)


def _do_part(
    database: Database, settings: Settings, bulk_id: str, step: int, part: list[Task], *, waits: bool
) -> tuple[bool, float]:
    """(whether it was ours to do, the seconds for which the writer was held: with the commit, without the wait)."""
    began = 0.0

    def do(tx: Transaction) -> bool:
        nonlocal began
        began = time.monotonic()
        return bulk_actions.do_part(tx, settings, bulk_id, step, part, waits=waits)

    is_done = database.write(do, lock_seconds=None if waits else LOCKED_ROW_SECONDS).result()
    return is_done, time.monotonic() - began


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
