"""The lists in the broker through which workers are told of their claims: two for each worker, tasks and polls.

A message is popped by its worker, or taken by whoever finds that nobody pops it; both are one step of the server's, so
one of them has it.  What was taken stays in a list beside until its claims are given to others, so that it is not
lost with whoever took it.  The database says who has what: a list that is lost costs time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from config.settings import Settings
from supervisor.broker.broker_address import broker_address
from supervisor.broker.claim_messages import POLLS, TASKS, ClaimKeys, ClaimMessage, NotOurs
from supervisor.security.secret import read_or_make_secret, secret_before
from supervisor.store.tasks.remote_wait import Undelivered

if TYPE_CHECKING:
    import redis

KINDS = (TASKS, POLLS)
KEPT_SECONDS = 600  # a list that nobody touches
SEND_SECONDS = 0.5  # below the patience of a standby dispatcher

_TAKE = """local found = redis.call('LRANGE', KEYS[1], 0, -1)
for _, message in ipairs(found) do redis.call('RPUSH', KEYS[2], message) end
redis.call('DEL', KEYS[1])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return redis.call('LRANGE', KEYS[2], 0, -1)"""


class ClaimLists:
    """client: with no retries, and a time-out that is longer than any pop."""

    def __init__(self, client: redis.Redis, keys: ClaimKeys, *, namespace: str = "dramatiq") -> None:
        self._client, self._keys, self._namespace = client, keys, namespace
        self.refused = 0

    def push(self, messages: Iterable[ClaimMessage]) -> None:
        """Send these, in one round trip.  Raises redis.RedisError, OSError: some may have been sent."""
        with self._client.pipeline(transaction=False) as pipe:
            for message in messages:
                key = self.key(message.kind, message.worker_id)
                pipe.rpush(key, self._keys.sealed(message))
                pipe.expire(key, KEPT_SECONDS)
                pipe.rpush(_bell(key), "1")
                pipe.ltrim(_bell(key), -1, -1)
                pipe.expire(_bell(key), KEPT_SECONDS)
            pipe.execute()

    def wait(self, kind: str, worker_id: str, *, seconds: int) -> None:
        """Until something was sent to this list, or for so many seconds.

        What waits takes a ring and no message: a server gives what comes to whoever waits in a blocking pop, also to
        a process that is frozen, and its claims would be out of the list with nobody to begin them.
        """
        self._client.blpop([_bell(self.key(kind, worker_id))], timeout=seconds)

    def pop(self, kind: str, worker_id: str) -> bytes | None:
        """The message in front of a list, as it was sent; None if there is none."""
        popped: Any = self._client.lpop(self.key(kind, worker_id))
        return None if popped is None else bytes(popped)

    def put_back(self, kind: str, worker_id: str, sent: bytes) -> None:
        """A message that was popped in vain, to where it was."""
        key = self.key(kind, worker_id)
        with self._client.pipeline(transaction=False) as pipe:
            pipe.lpush(key, sent)
            pipe.expire(key, KEPT_SECONDS)
            pipe.execute()

    def opened(self, kind: str, worker_id: str, sent: bytes) -> ClaimMessage | None:
        """What a message says; None for one that is not ours, which is counted."""
        try:
            return self._keys.opened(sent, kind, worker_id)
        except NotOurs:
            self.refused += 1
            return None

    def heads(self, worker_ids: Sequence[str]) -> Mapping[tuple[str, str], bytes | None]:
        """{(kind, worker): the message that lies in front, or None}, in one round trip."""
        lists = [(kind, worker_id) for worker_id in worker_ids for kind in KINDS]
        with self._client.pipeline(transaction=False) as pipe:
            for each in lists:
                pipe.lindex(self.key(*each), 0)
            return dict(zip(lists, pipe.execute(), strict=True))

    def take(self, worker_id: str) -> list[Undelivered]:
        """Take all that lies in a worker's lists, and what was taken before and is not `forget`-ed: its claims."""
        with self._client.pipeline(transaction=False) as pipe:
            for kind in KINDS:
                key = self.key(kind, worker_id)
                pipe.eval(_TAKE, 2, key, f"{key}.taken", KEPT_SECONDS)
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


def _bell(key: str) -> str:
    return f"{key}.bell"


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
