"""The adapter for Replicate: a prediction is submitted and polled."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Any

from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    InvalidInput,
    Job,
    Lost,
    Postponed,
    Progress,
    ProviderError,
    RateLimited,
    ResultLost,
    Running,
    Transient,
    UnknownOutcome,
)
from actors.providers.common.adapter import HttpAdapter, half_of_age
from actors.providers.common.answers import Answer, error_in, others_in, question_error_in
from actors.providers.common.bills import note_cost
from actors.providers.common.picture_sources import Source
from actors.providers.common.refusals import refused_too
from actors.providers.common.requests import Outgoing, as_json
from actors.providers.provider_context import ProviderContext
from actors.providers.replicate.predictions import judge, rules_for, wait_told
from actors.providers.replicate.service import ReplicateService

HAND_IN_SECONDS = 60.0
ASK_SECONDS = 30.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 10.0


class ReplicateProvider(HttpAdapter[ReplicateService]):
    """One service in one process.  It also holds the common part of Replicate and cog."""

    hands_in = True

    def __init__(self, service: ReplicateService, context: ProviderContext) -> None:
        super().__init__(service, context)
        self.pictures_per_request = service.pictures_per_request

    async def submit(self, job: Job, progress: Progress) -> Done | Accepted:
        """Submit the prediction; it may be over at once."""
        service = self.service
        path, body = _place(service.model)
        if job.callback_url.startswith("https://"):  # Replicate calls no others
            body |= {"webhook": job.callback_url, "webhook_events_filter": ["completed"]}
        headers = {"Cancel-After": service.cancel_after} if service.cancel_after else {}
        put_down: list[str] = []
        accepted = None
        try:
            body["input"] = await self._input(job, put_down)
            progress(10, "handing the job in")
            seconds = min(HAND_IN_SECONDS, job.ai_timeout_seconds)
            try:
                answer = await self._send("POST", path, body, headers, seconds)
            except InvalidInput as error:
                raise await self._refusals.judged(error, job, self._refuses_us) from None
            self._refusals.forget()
            accepted = _accepted(answer, put_down, reports="webhook" in body)
            return accepted
        finally:
            if accepted is None:
                await self._values.take_away(put_down)

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        if not remote.remote_id:
            raise Transient("The AI service's id of this job is unknown.")
        answer = await self._client.question(
            self._outgoing("GET", f"/predictions/{remote.remote_id}"), ASK_SECONDS
        )
        if answer.status in (404, 410):
            return Failed(Lost("The AI service does not know the job any more."))
        error = self._http_error(answer, question_error_in)
        if error is not None:
            raise error
        return await self.said(answer, remote, job)

    async def cancel(self, remote: Accepted) -> bool:
        await self._values.take_away(remote.details.get("put_down", []))
        if not remote.remote_id:
            return True
        request = self._outgoing("POST", f"/predictions/{remote.remote_id}/cancel")
        answer = await self._client.question(request, ASK_SECONDS)
        error = self._http_error(answer, question_error_in)
        return answer.status in (404, 410) or not isinstance(error, Transient | Postponed)

    async def _refuses_us(self) -> str | None:
        """Why every order is refused, by a look at the model, which costs nothing; None if nothing is known."""
        question = self._outgoing("GET", _page(self.service.model))
        return refused_too(await self._client.question(question, ASK_SECONDS))

    # --- in common with cog ---

    async def _input(self, job: Job, put_down: list[str]) -> Any:
        template = self.service.input
        values = await self._values.of_order(template.placeholders, job, put_down)
        return await asyncio.to_thread(template.render, values.__getitem__)

    async def _send(
        self, method: str, path: str, body: dict[str, Any], headers: dict[str, str], seconds: float
    ) -> Answer:
        """The answer to a request that costs money.  Raises ProviderError for a refusal."""
        request = await asyncio.to_thread(self._outgoing, method, path, body, headers)
        answer = await self._client.ask(request, seconds)
        error = self._http_error(answer)
        if error is not None:
            raise error
        return answer

    def _http_error(
        self, answer: Answer, judged: Callable[..., ProviderError | None] = error_in
    ) -> ProviderError | None:
        """The error by an HTTP status.  A failed prediction is a good answer about a failed job."""
        if 200 <= answer.status < 300:
            return None
        error = judged(answer, self.service.rules, now=time.time())
        if isinstance(error, RateLimited) and (told := wait_told(answer.document)) is not None:
            return RateLimited(error.message, wait_seconds=told)
        return error

    async def said(self, answer: Answer, remote: Accepted, job: Job) -> Running | Done | Failed:
        said = await self._judged(answer, job)
        if isinstance(said, Running):
            return Running(
                said.progress, said.stage, half_of_age(remote, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
            )
        await note_cost(job, answer, self.service.rules)
        try:
            ended = (
                said if isinstance(said, Failed) else await self._collected(job, answer, said, may_wait=True)
            )
        except ResultLost as error:
            ended = Failed(error)
        await self._values.take_away(remote.details.get("put_down", []))
        return ended

    async def _judged(self, answer: Answer, job: Job) -> Running | Failed | list[Source]:
        rules = rules_for(self.service.rules, job.outputs)
        return await asyncio.to_thread(judge, answer, rules, now=time.time())

    async def _collected(
        self, job: Job, answer: Answer, sources: list[Source], *, may_wait: bool = False
    ) -> Done:
        """What a prediction that has succeeded has made.  Raises as the collector."""
        others = await asyncio.to_thread(others_in, answer, rules_for(self.service.rules, job.outputs))
        done = await self._collector.done(job, sources, may_wait=may_wait) if sources else Done()
        if others.files:
            offered = [self._collector.offered(job, each) for each in others.files]
            done = await self._collector.told_apart(job, offered, may_wait=may_wait)
        return dataclasses.replace(done, data=others.data)

    def _outgoing(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Outgoing:
        given = self.service.authorization | (headers or {})
        if body is None:
            return Outgoing(method, self.service.base + path, given)
        given["Content-Type"] = "application/json"
        return Outgoing(method, self.service.base + path, given, body=as_json(body))


def _page(model: str) -> str:
    """The address of the description of a model, a version or a deployment; the model of a bare version is unknown."""
    if model.startswith("deployments/"):
        return f"/{model}"
    name, _, version = model.partition(":")
    if "/" not in name:
        return "/account"
    return f"/models/{name}" + (f"/versions/{version}" if version else "")


def _place(model: str) -> tuple[str, dict[str, Any]]:
    """The path for a prediction of this model, and its name in the body."""
    if model.startswith("deployments/"):
        return f"/{model}/predictions", {}
    name, _, version = model.rpartition(":")
    if name or "/" not in model:
        return "/predictions", {"version": version}
    return f"/models/{model}/predictions", {}


def _accepted(answer: Answer, put_down: list[str], *, reports: bool) -> Accepted:
    document = answer.document if isinstance(answer.document, dict) else {}
    remote_id = document.get("id")
    if not isinstance(remote_id, str) or not remote_id.isalnum() or len(remote_id) > 100:
        raise UnknownOutcome("The AI service's answer holds no id of a job.")
    details = {"put_down": put_down, "accepted_at": time.time()}
    return Accepted(remote_id, FIRST_PAUSE_SECONDS, details, reports)
