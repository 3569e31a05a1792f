"""What a producer hands in: a task to be made, and the key under which it may be handed in again."""

from __future__ import annotations

import dataclasses
from typing import Any

from supervisor.core.task_params import CheckedParams
from supervisor.security.token_proof import Proof


@dataclasses.dataclass(frozen=True)
class Key:
    """An idempotency key, where it holds, and for which body.  body_hash: of the body in canonical form."""

    user: str
    method: str
    path: str
    text: str
    body_hash: str

    @property
    def place(self) -> tuple[str, str, str, str]:
        """All but the body: two requests with the same place must have the same body."""
        return self.user, self.method, self.path, self.text


@dataclasses.dataclass(frozen=True)
class NewTask:
    """An order as it comes in.  run_after: RFC 3339 in UTC with milliseconds, or None.  task_id: None makes one.

    checked: its params, where somebody has checked them already.  key: what it may be sent again under.
    webhook: the address that is told of its end.  trace: the `traceparent` of the trace it belongs to, if any.
    proofs: of the token that hands it in; it may have been taken back.
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
