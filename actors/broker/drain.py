"""Drain: a stopping worker takes nothing new, and its running jobs finish.

Stock dramatiq keeps fetching until its last job has ended, so new messages are stuck in a process that will not run
them.  Here the consumers go on only to send signs of life; fetched messages that were not started are returned at once.
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
