"""A check whether the broker takes our messages, for programs that do not load Dramatiq's client.

A server also answers PING if the user has no other rights, if it is a replica, and if its memory is full.  So each kind
of command that messages need is tried on a key of our own, which is deleted when the script ends.
"""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from supervisor.broker.broker_address import socket_path
from supervisor.broker.broker_mode import refuse_unusable_mode
from supervisor.broker.embedded_broker import broker_answers
from supervisor.core.errors import BrokerAway

PING_SECONDS = 5.0

# The server runs it as one step, so no other client sees the key, and it is deleted even if we die meanwhile.
_TRIED = """
    redis.call('hset', KEYS[1], 'a', '1') redis.call('hmget', KEYS[1], 'a') redis.call('hdel', KEYS[1], 'a')
    redis.call('rpush', KEYS[1], 'a') redis.call('lpush', KEYS[1], 'a') redis.call('lrange', KEYS[1], 0, 1)
    redis.call('lindex', KEYS[1], 0) redis.call('lmove', KEYS[1], KEYS[1], 'LEFT', 'RIGHT')
    redis.call('rpop', KEYS[1]) redis.call('lpop', KEYS[1])
    redis.call('sadd', KEYS[1], 'a') redis.call('smembers', KEYS[1]) redis.call('srem', KEYS[1], 'a')
    redis.call('zadd', KEYS[1], 1, 'a') redis.call('zrem', KEYS[1], 'a')
    redis.call('incr', KEYS[1]) redis.call('expire', KEYS[1], 1) redis.call('exists', KEYS[1])
    return redis.call('del', KEYS[1])"""
_KEYS = ("dramatiq:darkroom-probe", "darkroom:quota:probe")
_NAMESPACE = "dramatiq"  # dramatiq's scripts name it as a key of its own, which `~dramatiq:*` does not allow


def reach_broker(settings: Settings) -> None:
    """Return if the broker answers.  Raises BrokerAway, or SettingFault for one that can't work.  Blocks."""
    refuse_unusable_mode(settings)
    if not ping_broker(settings, timeout_seconds=PING_SECONDS):
        raise BrokerAway("The broker does not answer; start it, or check DARKROOM_BROKER_URL.")


def ping_broker(settings: Settings, *, timeout_seconds: float) -> bool:
    """Whether a server answers PING at the configured address, or at the embedded server's socket.  Blocks."""
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
            return try_commands(client)
    except (redis.RedisError, OSError, ValueError):
        return False


def try_commands(client: Any) -> bool:
    """True if the server allows all commands that messages and quotas need.  Raises RedisError if not.

    client: a `redis.Redis`.
    """
    client.eval("return 1", 1, _NAMESPACE)
    return all(bool(client.eval(_TRIED, 1, key)) for key in _KEYS)
