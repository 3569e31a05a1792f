"""A redis client that fails soon and never repeats a command by itself.

With redis-py's defaults a send may hang for 59 s and push a message twice (retries), or lose acks (a pool made from
`url=` has other retries than one made from keywords).  So an address is always parsed here and every option is set.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

SOCKET_TIMEOUT_SECONDS = 10.0  # how long a frozen broker may hold a caller
CONNECT_TIMEOUT_SECONDS = 3.0


class BadBrokerAddress(ValueError):
    """The broker's address can't be used.  Correct `DARKROOM_BROKER_URL`."""


def tells_its_end(client: redis.Redis) -> bool:
    """Whether whoever waits for this server learns at once that it has ended, as on a socket of this host.  Elsewhere a
    host may vanish without a word."""
    return issubclass(client.connection_pool.connection_class, redis.UnixDomainSocketConnection)


def client_options(address: str) -> dict[str, Any]:
    """Keywords for `redis.Redis`.  address: `redis://`, `rediss://` or `unix://`.  Raises BadBrokerAddress."""
    try:
        options = dict(parse_url(address))  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise BadBrokerAddress(f"The broker's address can't be read: {error}") from None
    options.pop("connection_class", None)
    if address.startswith("unix://"):
        if not options.get("path"):
            raise BadBrokerAddress("The broker's address unix:// names no socket.")
        options["unix_socket_path"] = options.pop("path")
    else:
        options["ssl"] = address.startswith("rediss://")
        options["socket_connect_timeout"] = CONNECT_TIMEOUT_SECONDS
        options["socket_keepalive"] = True
        # With these on, the pool no longer notices that a connection holds half a reply.
        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    return options | {
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
    }


def open_client(address: str, *, patience_seconds: float | None = None) -> redis.Redis:
    """A client that connects at its first command, not now.  Raises BadBrokerAddress.

    patience_seconds: how long it waits for a connection, and for each answer, instead of the default.
    """
    options = client_options(address)
    if patience_seconds is not None:
        options |= {"socket_timeout": patience_seconds, "socket_connect_timeout": patience_seconds}
    try:
        return redis.Redis(**options)
    except TypeError as error:
        raise BadBrokerAddress(f"The broker's address has an option that doesn't exist: {error}") from None
