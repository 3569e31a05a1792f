"""A part that `darkroom up` has started, and what that changes for it.

Its supervisor ran before it and migrated the database itself, so a database that is newer by now was upgraded beneath a
running system: the part is an old one that goes on until it is told to stop.  And where the program was replaced under
its supervisor, a database that nobody has migrated yet is a matter of minutes, not a crash loop.
"""

from __future__ import annotations

import os

from supervisor.core.errors import NotReady, exit_status
from supervisor.processes.restart_plan import NOT_NOW

# They are no settings.
VARIABLE = "SUPERVISED_BY_UP"
# Each spawn is given its id, so that its supervisor can say in the database that it has ended.
WORKER_SPAWN_ID, DISPATCHER_SPAWN_ID = "WORKER_SPAWN_ULID", "DISPATCHER_SPAWN_ULID"


def is_supervised() -> bool:
    """Whether `darkroom up` has started this process, or its parent."""
    return VARIABLE in os.environ


def exit_status_of_part(error: Exception) -> int:
    """`exit_status`, as this process's supervisor understands it."""
    return NOT_NOW if is_supervised() and isinstance(error, NotReady) else exit_status(error)
