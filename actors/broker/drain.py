"""Drain: a worker that is told to stop takes nothing new, while what runs finishes.

Stock dramatiq keeps fetching until its last job has ended, so new work lies captured in a process that will not run
it.  Here the consumers stay only to say that this process lives; what was fetched and not started goes back at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq import Middleware

if TYPE_CHECKING:
    from dramatiq import Worker

    from actors.broker.broker import DarkroomBroker


class Drain(Middleware):
    """Begins the broker's drain when the worker begins to stop."""

    def before_worker_boot(self, broker: DarkroomBroker, worker: Worker) -> None:  # type: ignore[override]
        broker.begin_work(worker)

    def before_worker_shutdown(self, broker: DarkroomBroker, worker: Worker) -> None:  # type: ignore[override]
        broker.begin_drain()
