"""A lock that ends with the process that holds it, beside the row that says who works.

The row with its term decides everything (`supervisor.store.queue.leader`).  A standby that watched only the row would
have to see a dead dispatcher's beat stand still, so the beat would have to be fast.  The kernel, or the database's
server, gives this lock back as soon as its holder's process has ended, so whoever gets it knows sooner, and the beat
may be slow.

Nothing rests on it: two may believe to hold it, or nobody may be able to.  A frozen process keeps it, and a host that
has vanished may; then the beat tells.  A connection that broke gives it away while its holder lives; the holder then
says so in the row, by beating fast.  Where it can't work at all, as behind a pooler, everybody beats fast.
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
