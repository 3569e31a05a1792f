"""Orders that are refused one after the other: is each at fault, or would every order be refused?

Services answer a wrong key, an unknown model or a workflow that they can't run with 400 or 422, like a bad order.  So
after two orders in a row with different params and the same error text, the adapter asks a question of its own that
orders nothing.  Only its answer can make the provider down: no user's order decides for others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Awaitable, Callable

from actors.providers.base import InvalidInput, Job, ProviderDown, ProviderError
from actors.providers.common.answers import Answer

REFUSALS = (400, 401, 403, 404)


@dataclasses.dataclass(frozen=True)
class _Refused:
    """The last refused order.  order: its params.  is_everybodys: whether every order is refused like this."""

    words: str
    order: str
    is_everybodys: bool


class Refusals:
    """What one adapter remembers of refused orders."""

    def __init__(self) -> None:
        self._last: _Refused | None = None

    def forget(self) -> None:
        """An order was taken."""
        self._last = None

    async def judged(
        self, error: InvalidInput, job: Job, ask: Callable[[], Awaitable[str | None]]
    ) -> InvalidInput | ProviderDown:
        """The error, or that the provider is down if every order would be refused like this.

        ask: asks the service without ordering; why it refuses every order, or None if nothing is known.
        """
        before, asked = self._last, _digest(job)
        self._last = _Refused(error.message, asked, before.is_everybodys if before else False)
        if (
            before is None
            or before.words != error.message
            or not (before.is_everybodys or before.order != asked)
        ):
            return error
        try:
            why = await ask()
        except ProviderError:
            return error
        self._last = _Refused(error.message, asked, why is not None)
        if why is None:
            return error
        down = ProviderDown(f"{error.message.removesuffix('.')}, and {why}.")
        down.detail = error.detail
        return down


def refused_too(answer: Answer, *, but: tuple[int, ...] = ()) -> str | None:
    """Why every order is refused, by the answer to a question of our own; None if it was not refused.

    but: statuses that say nothing of the service.
    """
    if answer.status in REFUSALS and answer.status not in but:
        return f"a question of our own was refused too (HTTP {answer.status})"
    return None


def _digest(job: Job) -> str:
    params = json.dumps(job.params, sort_keys=True, default=str)
    return hashlib.sha256(params.encode("utf-8", "surrogatepass")).hexdigest()
