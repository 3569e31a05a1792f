"""The lists in the broker through which workers are told of their claims: two for each worker, tasks and polls.

A worker waits in a blocking pop, which a server answers also while the worker is frozen.  So what is popped lies beside
the list until the worker *owns* it, and whoever finds that a message is neither popped nor owned takes it from there.
Popping, owning and taking are one step of the server's each, so one of the two has it.  What was taken stays in a third
list until its claims are given to others, so that it is not lost with whoever took it.  The database says who has
what: a list that is lost costs time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from config.settings import Settings
from supervisor.broker.broker_address import broker_address
from supervisor.broker.signed_claims import POLLS, TASKS, ClaimKeys, ClaimMessage, NotOurs
from supervisor.security.secret import read_or_make_secret, secret_before
from supervisor.store.tasks.remote_wait import Undelivered

if TYPE_CHECKING:
    import redis

KINDS = (TASKS, POLLS)
KEPT_SECONDS = 600  # a list that nobody touches
SEND_SECONDS = 0.5  # below the patience of a standby dispatcher

# KEYS: where what is taken goes, and from where.
_TAKE = """for place = 2, #KEYS do
    for _, message in ipairs(redis.call('LRANGE', KEYS[place], 0, -1)) do
        redis.call('RPUSH', KEYS[1], message)
    end
    redis.call('DEL', KEYS[place])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return redis.call('LRANGE', KEYS[1], 0, -1)"""


class Place(NamedTuple):
    """Where a message may lie.  is_popped: beside the list, until its worker owns it."""

    kind: str
    worker_id: str
    is_popped: bool = False


class ClaimLists:
    """client: with no retries, and a time-out that is longer than any pop."""

    def __init__(self, client: redis.Redis, keys: ClaimKeys, *, namespace: str = "dramatiq") -> None:
        self._client, self._keys, self._namespace = client, keys, namespace
        self.refused = 0

    def push(self, messages: Iterable[ClaimMessage]) -> None:
        """Send these, in one round trip.  Raises redis.RedisError, OSError: some may have been sent."""
        with self._client.pipeline(transaction=False) as pipe:
            for message in messages:
                pipe.rpush(self.key(message.kind, message.worker_id), self._keys.sealed(message))
            pipe.execute()

    def pop(self, kind: str, worker_id: str, *, seconds: int) -> bytes | None:
        """The message in front of a list, as it was sent; None if none comes within so many seconds.

        Until it is owned, or put back, others may take it, should it lie there for too long.
        """
        key = self.key(kind, worker_id)
        popped: Any = self._client.blmove(key, _popped(key), seconds)
        return None if popped is None else bytes(popped)

    def own(self, kind: str, worker_id: str) -> bool:
        """Nobody takes any more what was popped; False when somebody has."""
        return bool(self._client.delete(_popped(self.key(kind, worker_id))))

    def put_back(self, kind: str, worker_id: str) -> None:
        """What was popped in vain, and was not taken since, is in front of the list again."""
        key = self.key(kind, worker_id)
        while self._client.lmove(_popped(key), key, "RIGHT", "LEFT") is not None:
            pass

    def opened(self, kind: str, worker_id: str, sent: bytes) -> ClaimMessage | None:
        """What a message says; None for one that is not ours, which is counted."""
        try:
            return self._keys.opened(sent, kind, worker_id)
        except NotOurs:
            self.refused += 1
            return None

    def heads(self, worker_ids: Sequence[str]) -> Mapping[Place, bytes | None]:
        """The message that lies in front of each place, or None, in one round trip; what lies there is kept on."""
        places = places_of(worker_ids)
        with self._client.pipeline(transaction=False) as pipe:
            for place in places:
                pipe.lindex(self._key_of(place), 0)
            for place in places:
                pipe.expire(self._key_of(place), KEPT_SECONDS)
            return dict(zip(places, pipe.execute(), strict=False))

    def take(self, worker_id: str, *, popped: bool) -> list[Undelivered]:
        """Take all that lies in a worker's lists, and what was taken before and is not `forget`-ed: its claims.

        popped: also what lies beside, which it may be about to begin.
        """
        with self._client.pipeline(transaction=False) as pipe:
            for kind in KINDS:
                key = self.key(kind, worker_id)
                places = [_popped(key), key] if popped else [key]
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
        """What was taken is given to others."""
        self._client.delete(*(f"{self.key(kind, worker_id)}.taken" for kind in KINDS))

    def forget_worker(self, worker_id: str) -> None:
        """The same of a worker that is dead: what it had popped goes too."""
        keys = [self.key(kind, worker_id) for kind in KINDS]
        self._client.delete(*(f"{key}.taken" for key in keys), *map(_popped, keys))

    def take_refused(self) -> int:
        """How many messages were not ours, since this was asked last."""
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
        return _popped(key) if place.is_popped else key


def places_of(worker_ids: Sequence[str]) -> list[Place]:
    """Every place where messages of these workers may lie."""
    return [
        Place(kind, worker_id, is_popped)
        for worker_id in worker_ids
        for kind in KINDS
        for is_popped in (False, True)
    ]


def _popped(key: str) -> str:
    return f"{key}.popped"


def claim_keys(settings: Settings) -> ClaimKeys:
    """Raises OSError if there is no secret and none can be made."""
    before = secret_before(settings)
    return ClaimKeys([read_or_make_secret(settings), *([before] if before is not None else [])])


def open_lists(settings: Settings, *, patience_seconds: float | None = SEND_SECONDS) -> ClaimLists:
    """Lists at the broker of these settings; nothing is opened yet.  patience_seconds: for an answer, None for ten."""
    from supervisor.broker.broker_client import (
        open_client,  # several megabytes, which most programs do not need
    )

    return ClaimLists(
        open_client(broker_address(settings), patience_seconds=patience_seconds), claim_keys(settings)
    )
