"""The signed messages that carry claims to workers.  Pure.

A message is `<signature> <JSON>`.  The JSON names the worker, so that the message is invalid in another worker's list,
and holds the data that an attempt needs of each task.  Without signatures, any program with access to the broker could
begin work that costs money; a message without a valid signature is dropped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.store.sql.rows import encoded

_PURPOSE = b"darkroom claims 1"
MOST_PARAMS = 8192  # characters; the worker reads larger ones from the row

TASKS, POLLS = "tasks", "polls"  # the two lists of a worker


@dataclasses.dataclass(frozen=True)
class ClaimMessage:
    """kind: TASKS or POLLS.  claims: rows of `supervisor.store.tasks.claims.claim_for`; none if the message only asks
    for a sign of life."""

    kind: str
    worker_id: str
    claims: Sequence[Mapping[str, Any]] = ()


class NotOurs(ValueError):
    """The message has no valid signature for this worker."""


class ClaimKeys:
    """Signs with the first secret; accepts signatures of both."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [hmac.digest(each.encode(), _PURPOSE, hashlib.sha256) for each in secrets]

    def sealed(self, message: ClaimMessage) -> bytes:
        """The bytes to send."""
        claims = [_without_large_params(claim) for claim in message.claims]
        body = encoded([message.kind, message.worker_id, claims]).encode()
        return _signature(self._keys[0], body) + b" " + body

    def opened(self, sent: bytes, kind: str, worker_id: str) -> ClaimMessage:
        """The content of a message for this worker.  Raises NotOurs."""
        signature, _, body = sent.partition(b" ")
        if not any(hmac.compare_digest(_signature(key, body), signature) for key in self._keys):
            raise NotOurs
        message = ClaimMessage(*json.loads(body))
        if (message.kind, message.worker_id) != (kind, worker_id):
            raise NotOurs
        return message


def _signature(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, hashlib.sha256).hex().encode()


def _without_large_params(claim: Mapping[str, Any]) -> Mapping[str, Any]:
    params = claim["params"]
    return (
        claim
        if params is None or len(params) <= MOST_PARAMS
        else {**claim, "params": None, "image_keys": None}
    )
