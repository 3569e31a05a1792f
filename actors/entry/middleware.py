"""The middleware of the broker, in the only right order.

Left out on purpose: Retries (attempts live in the row), Prometheus (wrong across restarts), Results (outcomes live in
the row).  dramatiq runs `before_…` hooks from the first to the last and `after_…` hooks backwards, so the two that can
interrupt a thread come last: armed last and disarmed first, they never interrupt another hook.
"""

from __future__ import annotations

from dramatiq import Middleware
from dramatiq.middleware import CurrentMessage, ShutdownNotifications, TimeLimit
from periodiq import PeriodiqMiddleware

from actors.broker.drain import Drain
from actors.broker.periodic_once import PeriodicOnce
from actors.broker.slots import Slots
from actors.worker.event_loop import EventLoop
from actors.worker.watchdog import Watchdog

TIME_LIMIT_CHECK_MS = 5_000  # no actor has a limit below 50 s; attempts have a time limit of their own
STALE_TICK_SECONDS = 55  # an older tick is skipped; the next minute has its own


def broker_middleware(*own: Middleware) -> list[Middleware]:
    """All middleware for a DarkroomBroker.  own: further ones; they run with a configured worker, and can't be
    interrupted."""
    return [
        Slots(),
        Drain(),
        EventLoop(),
        CurrentMessage(),
        PeriodiqMiddleware(skip_delay=STALE_TICK_SECONDS),
        PeriodicOnce(),
        *own,
        Watchdog(),
        ShutdownNotifications(),
        TimeLimit(interval=TIME_LIMIT_CHECK_MS),
    ]
