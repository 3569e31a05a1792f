"""The middleware of the broker, in the one order that is right.

Left out on purpose: Retries (attempts live in the row), Prometheus (wrong across restarts), Results (outcomes live in
the row).  dramatiq runs `before_…` hooks from the first to the last and `after_…` hooks backwards, so the two that can
interrupt a thread stand last: armed last, disarmed first, they never strike inside another hook.
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

STALE_TICK_SECONDS = 55  # a tick older than this is left to the next minute's


def broker_middleware(*own: Middleware) -> list[Middleware]:
    """Everything a DarkroomBroker needs.  own: further ones; they see a settled worker, and can't be interrupted."""
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
        TimeLimit(),
    ]
