"""Differences for a part that `darkroom up` has started.

Its supervisor migrated the database before it started the part.  So if the database is newer, it was upgraded under a
running system, and the old part goes on until it is asked to stop.  If the program was replaced under its supervisor,
the database may not be migrated yet; that takes minutes and is not a crash loop.
"""

from __future__ import annotations

import os

from supervisor.core.errors import NotReady, exit_status
from supervisor.processes.restart_plan import NOT_NOW

# These are not settings.
VARIABLE = "SUPERVISED_BY_UP"
# Each spawn gets an id, so that its supervisor can record its end in the database.
WORKER_SPAWN_ID, DISPATCHER_SPAWN_ID = "WORKER_SPAWN_ULID", "DISPATCHER_SPAWN_ULID"


def is_supervised() -> bool:
    """Whether `darkroom up` has started this process, or its parent."""
    return VARIABLE in os.environ


def exit_status_of_part(error: Exception) -> int:
    """`exit_status`, adjusted for this process's supervisor."""
    return NOT_NOW if is_supervised() and isinstance(error, NotReady) else exit_status(error)
