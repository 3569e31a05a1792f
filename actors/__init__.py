"""What `dramatiq actors` and `periodiq actors` run.

Importing this package sets Dramatiq's broker, which opens nothing and reads no setting until it is first used; the
processing actors, whose time limits are settings, are declared when a worker or a scheduler boots
(`actors.entry.boot`). Producers may import it too: `from actors import submit; submit.send(...)`.
"""

import os

import dramatiq

from actors.broker.broker import DarkroomBroker
from actors.entry.boot import Boot, boot_scheduler, settle
from actors.entry.middleware import broker_middleware

_broker = DarkroomBroker(middleware=broker_middleware(Boot()), settle=settle)
dramatiq.set_broker(_broker)
# Processes may be forked from one that has imported this; the server must tell their unacknowledged messages apart.
os.register_at_fork(after_in_child=_broker.take_new_id)

from actors.entry.control_actors import cancel_remote, deliver_webhooks  # noqa: E402
from actors.entry.submit_actor import submit  # noqa: E402
from actors.entry.sweep_actor import sweep  # noqa: E402

boot_scheduler()

__all__ = ["cancel_remote", "deliver_webhooks", "submit", "sweep"]
