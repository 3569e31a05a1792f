"""What all adapters over HTTP have in common."""

from __future__ import annotations

import time
from typing import Generic, TypeVar

from actors.providers.base import Accepted, Done, Failed, Job, Lost, Running
from actors.providers.common.answers import Answer, error_in, question_error_in
from actors.providers.common.client import HttpClient
from actors.providers.common.collecting import Collector
from actors.providers.common.order_values import OrderValues
from actors.providers.common.refusals import Refusals
from actors.providers.common.service import HttpService
from actors.providers.provider_context import ProviderContext

S = TypeVar("S", bound=HttpService)


class HttpAdapter(Generic[S]):
    """One service in one process.  A service that answers at once needs only `submit` beside this."""

    paid = True

    def __init__(self, service: S, context: ProviderContext) -> None:
        self.may_bill_twice = service.may_bill_twice
        self.service = service
        self._refusals = Refusals()
        self._client = HttpClient(most_bytes=service.answer_bytes)
        self._values = OrderValues(context, service.secrets)
        self._collector = Collector(service, context)

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        return Failed(Lost("This service answers at once and has no remote jobs."))

    async def cancel(self, remote: Accepted) -> bool:
        return True

    async def close(self) -> None:
        await self._client.close()

    def _refuse(self, answer: Answer) -> None:
        """Raises the ProviderError for a bad answer to an order."""
        error = error_in(answer, self.service.rules, now=time.time())
        if error is not None:
            raise error

    def _refuse_question(self, answer: Answer) -> None:
        """Raises the ProviderError for a bad answer to a request that orders nothing, such as a poll."""
        error = question_error_in(answer, self.service.rules, now=time.time())
        if error is not None:
            raise error


def half_of_age(remote: Accepted, first: float, longest: float) -> float:
    """Seconds until the next poll: the end of short jobs is noticed soon, and long ones are polled seldom.  It needs no
    state but the time at which the job was accepted."""
    age = time.time() - float(remote.details.get("accepted_at", 0))
    return min(longest, max(first, age / 2))
