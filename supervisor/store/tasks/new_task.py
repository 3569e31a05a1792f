"""An order from a producer: the task to be made, and its idempotency key."""

from __future__ import annotations

import dataclasses
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
class NewTask:
    """An order as it came in.  run_after: RFC 3339 in UTC with milliseconds, or None.  task_id: None makes one.

    checked: its params, if they are checked already.  key: its idempotency key.  webhook: the address for a message at
    its end.  trace: the `traceparent` of its trace, if any.  proofs: of the request's token, which may have been
    revoked.
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
    trace: str = ""
    proofs: tuple[Proof, ...] = ()
