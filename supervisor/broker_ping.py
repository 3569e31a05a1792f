"""Does the broker answer?  Asked without the broker's own client, by whoever only wants to know that."""

from __future__ import annotations

from config.settings import Settings
from supervisor.broker_address import socket_path
from supervisor.embedded_broker import broker_answers
from supervisor.faults import BrokerAway

PING_SECONDS = 5.0


def reach_broker(settings: Settings) -> None:
    """Return if the broker answers.  Raises BrokerAway.  Blocks."""
    if not ping_broker(settings, timeout_seconds=PING_SECONDS):
        raise BrokerAway("The broker does not answer; start it, or check DARKROOM_BROKER_URL.")


def ping_broker(settings: Settings, *, timeout_seconds: float) -> bool:
    """A server answers PING at the configured address, or at the embedded server's socket.  Blocks."""
    if not settings.broker_url:
        return broker_answers(socket_path(settings.data_dir))
    import redis  # several megabytes, which an embedded broker does not need
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        with redis.Redis.from_url(
            settings.broker_url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError, ValueError):
        return False
