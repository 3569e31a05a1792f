"""One run a minute of a periodic actor, with any number of schedulers.

Every host may run `periodiq`, and its restart fires the current minute again.  The first message of an actor in a UTC
minute marks that minute as taken; others are skipped.  This only saves work: a periodic actor may run twice without
harm, which happens if the broker loses the mark or does not answer.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dramatiq import Middleware
from dramatiq.middleware import SkipMessage

from actors.broker.consumer import BROKER_AWAY

if TYPE_CHECKING:
    from dramatiq.broker import MessageProxy

    from actors.broker.broker import DarkroomBroker

log = logging.getLogger(__name__)

KEPT_SECONDS = 300  # longer than the largest delay of a tick


def utc_minute(scheduled_at: str) -> str:
    """`2026-01-31T23:59` for any ISO 8601 time; without an offset it is taken as UTC.  Raises ValueError."""
    time = datetime.fromisoformat(scheduled_at)
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return time.strftime("%Y-%m-%dT%H:%M")


class PeriodicOnce(Middleware):
    """Skips a periodic message if its minute is taken.  Comes after PeriodiqMiddleware, which skips old ones."""

    def before_process_message(self, broker: DarkroomBroker, message: MessageProxy) -> None:  # type: ignore[override]
        """Raises SkipMessage."""
        scheduled_at = message.options.get("scheduled_at")
        if scheduled_at is None:  # sent by hand
            return
        key = f"{broker.namespace}:once:{message.actor_name}:{utc_minute(scheduled_at)}"
        try:
            taken = broker.client.set(key, message.message_id, nx=True, ex=KEPT_SECONDS)
            # The same message may run when it is delivered again after its worker died.
            if taken or broker.client.get(key) == message.message_id.encode():
                return
        except BROKER_AWAY as error:
            log.warning("Whether %s has run this minute can't be asked; it runs: %s", message, error)
            return
        raise SkipMessage(f"{message.actor_name} runs once a minute.")
