"""The adapter: a job becomes one request; its answer, or the answer to a later poll, becomes pictures."""

from __future__ import annotations

import asyncio
import dataclasses
import time

from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    Job,
    Lost,
    Postponed,
    Progress,
    ProviderDown,
    ResultLost,
    Running,
    Transient,
    UnknownOutcome,
)
from actors.providers.common.adapter import HttpAdapter, half_of_age
from actors.providers.common.answers import (
    Answer,
    Rules,
    no_pictures,
    others_in,
    pictures_in,
    question_error_in,
)
from actors.providers.common.bills import note_cost
from actors.providers.common.picture_sources import Source
from actors.providers.common.requests import Outgoing, RequestTemplate
from actors.providers.common.results import result_in
from actors.providers.common.template import Placeholder
from actors.providers.http.remote_jobs import Verdict, judge
from actors.providers.http.service import RemoteService, Service
from actors.providers.provider_context import ProviderContext

ASK_SECONDS = 30.0  # for one poll of a remote job
LARGE_BYTES = 262_144  # larger bodies are encoded and decoded in a thread
_CALLBACK_URL = Placeholder("callback_url")
_CANT_BE_STOPPED = frozenset({404, 405, 409, 410})


class HttpProvider(HttpAdapter[Service]):
    """One service in one process."""

    def __init__(self, service: Service, context: ProviderContext) -> None:
        super().__init__(service, context)
        self.pictures_per_request = service.pictures_per_request
        self.hands_in = service.remote is not None

    async def submit(self, job: Job, progress: Progress) -> Done | Accepted:
        """Send the request; wait for the pictures if the service makes them at once.  A cancel closes the
        connection."""
        remote = self.service.remote
        if remote is not None and remote.ask is None and not job.callback_url:
            raise ProviderDown("The AI service could not report the job's end: no address of ours is known.")
        progress(5, "preparing the request")
        put_down: list[str] = []
        accepted = None
        try:
            values = await self._values.of_order(self.service.request.placeholders, job, put_down)
            request = await asyncio.to_thread(self.service.request.render, values.__getitem__)
            progress(10, "waiting for the AI service")
            answer = await self._client.ask(request, job.ai_timeout_seconds)
            if remote is not None:
                accepted = self._accepted(answer, remote, put_down, told=bool(job.callback_url))
                return accepted
            await note_cost(job, answer, self.service.rules)
            progress(85, "collecting the pictures")
            return await self._collected(job, answer, self.service.rules, await self._sources(answer))
        finally:
            if accepted is None:
                await self._values.take_away(put_down)

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        service = self._remote_service(remote)
        if service.ask is None:
            return Running(poll_after_seconds=service.interval[1], was_asked=False)
        answer = await self._ask(service.ask, remote, job)
        said = judge(answer, service.job, self.service.rules, now=time.time())
        if isinstance(said, Running):
            return dataclasses.replace(said, poll_after_seconds=half_of_age(remote, *service.interval))
        await note_cost(job, answer, self.service.rules)
        if isinstance(said, Verdict) and service.fetch is not None:
            answer = await self._ask(service.fetch, remote, job)
        return await self.end(said, answer, self.service.rules, remote, job)

    async def cancel(self, remote: Accepted) -> bool:
        await self._values.take_away(remote.details.get("put_down", []))
        service = self.service.remote
        if service is None or service.cancel is None or not remote.remote_id:
            return True
        answer = await self._ask(service.cancel, remote, None)
        error = question_error_in(answer, self.service.rules, now=time.time())
        # If the service does not know the job, or refuses for good, the job is over or can't be stopped.
        return answer.status in _CANT_BE_STOPPED or not isinstance(error, Transient | Postponed)

    # --- the first answer ---

    def _accepted(
        self, answer: Answer, service: RemoteService, put_down: list[str], *, told: bool
    ) -> Accepted:
        """told: whether the service got an address for its report."""
        self._refuse(answer)
        ids = [value for value in service.id.find(answer.document) if isinstance(value, str | int)]
        remote_id = str(ids[0]) if ids else ""
        if not 0 < len(remote_id) <= 500:
            said = no_pictures(answer, self.service.rules, now=time.time())
            raise UnknownOutcome("The AI service's answer holds no id of a job.", code=said.code)
        kept = {
            name: str(found[0])
            for name, path in service.keep.items()
            if (found := path.find(answer.document))
        }
        details = {"kept": kept, "put_down": put_down, "accepted_at": time.time()}
        reports = told and _CALLBACK_URL in self.service.request.placeholders
        return Accepted(remote_id, service.interval[0], details, reports)

    async def _sources(self, answer: Answer) -> list[Source]:
        def judged() -> list[Source]:
            return pictures_in(answer, self.service.rules, now=time.time())

        large = len(answer.body) > LARGE_BYTES
        return await asyncio.to_thread(judged) if large else judged()

    async def _collected(
        self, job: Job, answer: Answer, rules: Rules, sources: list[Source], *, may_wait: bool = False
    ) -> Done:
        """The pictures, files and data of a good answer."""
        others = await asyncio.to_thread(others_in, answer, rules)
        done = await self._collector.done(job, sources, may_wait=may_wait) if sources else Done()
        files = await self._collector.files(job, others.files, may_wait=may_wait)
        return dataclasses.replace(done, files=files, data=others.data)

    # --- a remote job ---

    def _remote_service(self, remote: Accepted) -> RemoteService:
        if self.service.remote is None:
            raise Lost("This service answers at once and has no remote jobs.")
        if not remote.remote_id and self.service.remote.ask is not None:
            raise Transient("The AI service's id of this job is unknown.")
        return self.service.remote

    async def _ask(self, template: RequestTemplate, remote: Accepted, job: Job | None) -> Answer:
        kept = remote.details.get("kept", {})
        request: Outgoing = template.render(
            lambda placeholder: self._values.of_remote_job(placeholder, remote.remote_id, kept, job)
        )
        return await self._client.question(request, ASK_SECONDS)

    async def end(
        self, said: Failed | Verdict, answer: Answer, rules: Rules, remote: Accepted, job: Job
    ) -> Done | Failed:
        """The end of a job; answer: with its result."""
        await note_cost(job, answer, rules)
        ended = said if isinstance(said, Failed) else await self._finished(answer, rules, job)
        await self._values.take_away(remote.details.get("put_down", []))
        return ended

    async def _finished(self, answer: Answer, rules: Rules, job: Job) -> Done | Failed:
        found = await asyncio.to_thread(result_in, answer, rules, now=time.time())
        if isinstance(found, Failed):
            return found
        try:
            return await self._collected(job, answer, rules, found, may_wait=True)
        except ResultLost as error:
            return Failed(error)
