"""The lists in the broker that carry claims to workers: two for each worker, tasks and polls.

A worker waits in a blocking pop, which the server answers even while the worker is frozen.  So a popped message moves
to a second list until the worker *owns* it.  The dispatcher may take messages that are not popped, or popped and not
owned.  Popping, owning and taking are each one step of the server, so only one process gets a message.  A taken message
stays in a third list until its claims are put back, so that it is not lost if the dispatcher dies.  The database holds
the claims; a lost list costs only time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from config.settings import Settings
from supervisor.broker.broker_address import broker_address
from supervisor.broker.signed_claims import POLLS, TASKS, ClaimKeys, ClaimMessage, NotOurs
from supervisor.broker.worker_list import WorkerList, popped_of
from supervisor.security.secret import read_or_make_secret, secret_before
from supervisor.store.tasks.remote_wait import Undelivered

if TYPE_CHECKING:
    import redis

KINDS = (TASKS, POLLS)
KEPT_SECONDS = 600  # an unused list
SEND_SECONDS = 0.5  # less than a standby dispatcher waits

# KEYS: the list for taken messages, then the lists to take from.
_TAKE = """for place = 2, #KEYS do
    for _, message in ipairs(redis.call('LRANGE', KEYS[place], 0, -1)) do
        redis.call('RPUSH', KEYS[1], message)
    end
    redis.call('DEL', KEYS[place])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return redis.call('LRANGE', KEYS[1], 0, -1)"""


class Place(NamedTuple):
    """A place of messages.  is_popped: the second list, for messages that their worker does not own yet."""

    kind: str
    worker_id: str
    is_popped: bool = False


class ClaimLists:
    """client: without retries, and with a time-out longer than any pop."""

    def __init__(self, client: redis.Redis, keys: ClaimKeys, *, namespace: str = "dramatiq") -> None:
        self._client, self._keys, self._namespace = client, keys, namespace
        self.refused = 0

    def push(self, messages: Iterable[ClaimMessage]) -> None:
        """Send these messages, in one round trip.  Raises redis.RedisError, OSError: some may have been sent."""
        pool: Any = self._client.connection_pool
        count, packed = 0, list[bytes]()
        # redis-py's pipeline would take longer than everything else on the way of a claim to its worker.
        connection = pool.get_connection()
        try:
            for count, message in enumerate(messages, 1):  # noqa: B007
                key = self.key(message.kind, message.worker_id)
                packed += connection.pack_command("RPUSH", key, self._keys.sealed(message))
            connection.send_packed_command(packed)
            for _ in range(count):
                connection.read_response()
        except BaseException:
            connection.disconnect()  # answers may be left in it
            raise
        finally:
            pool.release(connection)

    def opened(self, kind: str, worker_id: str, sent: bytes) -> ClaimMessage | None:
        """The content of a message; None for a message without a valid signature, which is counted."""
        try:
            return self._keys.opened(sent, kind, worker_id)
        except NotOurs:
            self.refused += 1
            return None

    def heads(self, worker_ids: Sequence[str]) -> Mapping[Place, bytes | None]:
        """The first message of each place, or None, in one round trip; it also extends the lists' lifetime."""
        places = places_of(worker_ids)
        with self._client.pipeline(transaction=False) as pipe:
            for place in places:
                pipe.lindex(self._key_of(place), 0)
            for place in places:
                pipe.expire(self._key_of(place), KEPT_SECONDS)
            return dict(zip(places, pipe.execute(), strict=False))

    def take(self, worker_id: str, *, popped: bool) -> list[Undelivered]:
        """Take all messages of a worker's lists, with those taken before and not yet forgotten (`forget`): their
        claims.

        popped: take also messages that the worker has popped and may be about to begin.
        """
        with self._client.pipeline(transaction=False) as pipe:
            for kind in KINDS:
                key = self.key(kind, worker_id)
                places = [popped_of(key), key] if popped else [key]
                pipe.eval(_TAKE, 1 + len(places), f"{key}.taken", *places, KEPT_SECONDS)
            taken = pipe.execute()
        return [
            Undelivered(claim["id"], claim["lease"], worker_id)
            for kind, found in zip(KINDS, taken, strict=True)
            for sent in found
            if (message := self.opened(kind, worker_id, sent)) is not None
            for claim in message.claims
        ]

    def forget(self, worker_id: str) -> None:
        """Delete taken messages, because their claims were put back."""
        self._client.delete(*(f"{self.key(kind, worker_id)}.taken" for kind in KINDS))

    def forget_worker(self, worker_id: str) -> None:
        """The same for a dead worker: its popped messages are deleted too."""
        keys = [self.key(kind, worker_id) for kind in KINDS]
        self._client.delete(*(f"{key}.taken" for key in keys), *map(popped_of, keys))

    def of_worker(self, kind: str, worker_id: str) -> WorkerList:
        """One list of a worker, for that worker."""
        return WorkerList(self._client, self.key(kind, worker_id))

    def take_refused(self) -> int:
        """How many messages had no valid signature, since the last call."""
        refused, self.refused = self.refused, 0
        return refused

    def ping(self) -> None:
        """Returns if the broker answers.  Raises redis.RedisError, OSError."""
        self._client.ping()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def key(self, kind: str, worker_id: str) -> str:
        """The key of a worker's list."""
        return f"{self._namespace}:claims:{worker_id}:{kind}"

    def _key_of(self, place: Place) -> str:
        key = self.key(place.kind, place.worker_id)
        return popped_of(key) if place.is_popped else key


def places_of(worker_ids: Sequence[str]) -> list[Place]:
    """All places of these workers' messages."""
    return [
        Place(kind, worker_id, is_popped)
        for worker_id in worker_ids
        for kind in KINDS
        for is_popped in (False, True)
    ]


def claim_keys(settings: Settings) -> ClaimKeys:
    """The keys that sign claims.  Raises OSError if there is no secret and none can be created."""
    before = secret_before(settings)
    return ClaimKeys([read_or_make_secret(settings), *([before] if before is not None else [])])


def open_lists(settings: Settings, *, patience_seconds: float | None = SEND_SECONDS) -> ClaimLists:
    """Lists at the broker of these settings; nothing is opened yet.  patience_seconds: how long to wait
    for an answer; None means ten."""
    from supervisor.broker.broker_client import (
        open_client,  # several megabytes, which most programs do not need
    )

    return ClaimLists(
        open_client(broker_address(settings), patience_seconds=patience_seconds), claim_keys(settings)
    )
