"""What `dramatiq actors` and `periodiq actors` run.

Importing this package sets Dramatiq's broker, which opens nothing and reads no setting until it is first used; the
processing actors, whose time limits are settings, are declared when a worker or a scheduler boots (`actors.boot`).
Producers may import it too: `from actors import submit; submit.send(...)`.
"""

import dramatiq

from actors.boot import Boot, boot_scheduler, settle
from actors.broker import DarkroomBroker
from actors.middleware import broker_middleware

dramatiq.set_broker(DarkroomBroker(middleware=broker_middleware(Boot()), settle=settle))

from actors.errands import (  # noqa: E402  an actor needs its broker to be set first
    cancel_remote,
    deliver_webhooks,
)
from actors.submission import submit  # noqa: E402
from actors.sweeping import sweep  # noqa: E402

boot_scheduler()

__all__ = ["cancel_remote", "deliver_webhooks", "submit", "sweep"]
