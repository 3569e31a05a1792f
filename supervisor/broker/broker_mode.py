"""A broker in a mode that can't work is refused at the start: a node of a cluster, and a Sentinel.

A claim moves between two lists in one step, and a script reads several keys.  A cluster keeps them on different nodes,
so it would take some orders and refuse others.  One list for each worker, all under one hash tag, would lie on one node
in any case: such a cluster has nothing to give.
"""

from __future__ import annotations

import contextlib

from config.settings import Settings
from supervisor.core.errors import SettingFault

ANSWER_SECONDS = 2.0

_REFUSED = {
    "cluster": "is a node of a Redis Cluster; name a server, or a managed service, whose cluster mode is off",
    "sentinel": "is a Sentinel, which knows where the primary is and holds no data; name the address that follows the"
    " primary, such as that of a proxy, or a name in DNS",
}


def refuse_unusable_mode(settings: Settings) -> None:
    """Raises SettingFault if the broker at BROKER_URL is in a mode that can't work.  Blocks for seconds at most.

    A broker that is away, or that does not tell its mode, is no fault here: it may be back in a moment.
    """
    if not settings.broker_url:
        return
    import redis

    from supervisor.broker.broker_client import BadBrokerAddress, open_client

    with (
        contextlib.suppress(redis.RedisError, OSError, BadBrokerAddress),
        open_client(settings.broker_url, patience_seconds=ANSWER_SECONDS) as client,
    ):
        told = client.execute_command("HELLO", "2")
        if trouble := _REFUSED.get(_mode(told)):
            raise SettingFault(f"DARKROOM_BROKER_URL {trouble}.")


def _mode(told: object) -> str:
    """The mode in the answer to HELLO: names and values by turns, or a map."""
    if isinstance(told, dict):
        found = told.get(b"mode", told.get("mode", b""))
    else:
        words = list(told) if isinstance(told, list | tuple) else []
        found = dict(zip(words[::2], words[1::2], strict=False)).get(b"mode", b"")
    return found.decode() if isinstance(found, bytes) else str(found)
