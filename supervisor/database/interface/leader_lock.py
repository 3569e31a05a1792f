"""A lock that ends with the process that holds it, beside the row that names the working dispatcher.

The row with its term decides everything (`supervisor.store.queue.leader`).  A standby that watched only the row would
have to see a dead dispatcher's beat stand still, so the beat would have to be fast.  The kernel, or the database's
server, releases this lock as soon as its holder's process ends. So the standby gets it sooner, and the beat may be
slow.

Correctness does not depend on it: two processes may believe that they hold it, or none may be able to.  A frozen
process keeps it, and a vanished host may keep it; then the beat decides.  A broken connection releases it while its
holder still runs; the holder then beats fast, which the row shows.  Where it cannot work at all, as behind a pooler,
every dispatcher beats fast.
"""

from __future__ import annotations

import abc


class LeaderLock(abc.ABC):
    """One process's part in the lock of one database.  Nothing here waits."""

    @property
    @abc.abstractmethod
    def is_held(self) -> bool:
        """Whether this process has it."""

    @abc.abstractmethod
    def seek(self) -> bool:
        """Try to have it, from now on or until `give_up`; whether it is held."""

    @abc.abstractmethod
    def give_up(self) -> None:
        """Let others have it."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give it up, and everything that was opened for it."""


class NoLeaderLock(LeaderLock):
    """Where there is none."""

    is_held = False

    def seek(self) -> bool:
        return False

    def give_up(self) -> None:
        pass

    def close(self) -> None:
        pass
