"""An order from a producer: the task to be made, and its idempotency key."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from supervisor.core.task_params import CheckedParams
from supervisor.security.token_proof import Proof


@dataclasses.dataclass(frozen=True)
class Key:
    """An idempotency key with its scope and body.  body_hash: of the body in canonical form."""

    user: str
    method: str
    path: str
    text: str
    body_hash: str

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Everything but the body: two requests with the same place must have the same body."""
        return self.user, self.method, self.path, self.text


@dataclasses.dataclass(frozen=True)
class Repeatable:
    """An order that an SDK may send again by itself, without a key.  body_hash: of what is asked, in canonical form.

    seconds_since_begin: tells how long ago the request came.
    """

    user: str
    door: str
    body_hash: str
    seconds_since_begin: Callable[[], float]

    @property
    def place(self) -> tuple[str, str, str]:
        """What is equal in an order and its repeat."""
        return self.user, self.door, self.body_hash


@dataclasses.dataclass(frozen=True)
class NewTask:
    """An order as it came in.  run_after: RFC 3339 in UTC with milliseconds, or None.  task_id: None makes one.

    checked: its params, if they are checked already.  key: its idempotency key.  webhook: the address for a message at
    its end.  webhook_door: in which service's words (`webhooks.door_message`); None means our own.  trace: the
    `traceparent` of its trace, if any.  proofs: of the request's token, which may have been revoked.  repeats: what it
    may repeat, if its SDK repeats orders without a key (`cut_orders`).
    """

    user: str
    type: str
    params: dict[str, Any]
    priority: int = 0
    run_after: str | None = None
    task_id: str | None = None
    checked: CheckedParams | None = None
    key: Key | None = None
    webhook: str | None = None
    webhook_door: Mapping[str, Any] | None = None
    trace: str = ""
    proofs: tuple[Proof, ...] = ()
    repeats: Repeatable | None = None
