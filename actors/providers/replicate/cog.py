"""The adapter for a cog server.  It keeps no results, so there are two ways to have them.

`sync`: the connection is held open; closing it cancels the prediction.  `callback`: the prediction is handed in under
our own id and the server reports its end.  A report is at most 1 MiB, so a server whose pictures are larger must be
started with `--upload-url`.  In between the server can only be asked whether it is busy: one that is idle for a while
without having reported has lost the job (it was started anew, say).
"""

from __future__ import annotations

import asyncio
import hashlib
import time

from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    Job,
    Lost,
    Progress,
    ProviderDown,
    ResultLost,
    Running,
    Transient,
    UnknownOutcome,
    Unreadable,
)
from actors.providers.common.answers import Answer
from actors.providers.provider_context import Surroundings
from actors.providers.replicate.predictions import judge
from actors.providers.replicate.provider import ASK_SECONDS, HAND_IN_SECONDS, ReplicateProvider
from actors.providers.replicate.service import ReplicateService

POLL_SECONDS = 5.0
LOST_AFTER_SECONDS = 30.0  # of idleness: a report may be on its way, or be sent again


class CogProvider(ReplicateProvider):
    """One server in one process."""

    def __init__(self, service: ReplicateService, surroundings: Surroundings) -> None:
        super().__init__(service, surroundings)
        self.hands_in = service.mode == "callback"

    async def submit(self, job: Job, progress: Progress) -> Done | Accepted:
        if self.hands_in and not job.callback_url:
            raise ProviderDown("The AI service could not report the job's end: no address of ours is known.")
        put_down: list[str] = []
        accepted = None
        try:
            body = {"input": await self._input(job, put_down)}
            progress(10, "waiting for the AI service")
            if not self.hands_in:
                answer = await self._send("POST", "/predictions", body, {}, job.ai_timeout_seconds)
                return await self._at_once(answer, job)
            remote_id = hashlib.sha256(job.reference.encode()).hexdigest()[:32]
            body |= {"webhook": job.callback_url, "webhook_events_filter": ["completed"]}
            async_ = {"Prefer": "respond-async"}
            seconds = min(HAND_IN_SECONDS, job.ai_timeout_seconds)
            await self._send("PUT", f"/predictions/{remote_id}", body, async_, seconds)
            details = {"put_down": put_down, "accepted_at": time.time()}
            accepted = Accepted(remote_id, POLL_SECONDS, details, reports=True)
            return accepted
        finally:
            if accepted is None:
                await self._values.take_away(put_down)

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        answer = await self._client.question(self._outgoing("GET", "/health-check"), ASK_SECONDS)
        state = answer.document.get("status") if isinstance(answer.document, dict) else None
        if state is None:
            raise Transient("The AI service does not say how it is.")
        if state != "READY":
            return Running(stage="running at the AI service", poll_after_seconds=POLL_SECONDS)
        idle = "The AI service is idle, and has not reported the job."
        return Failed(Lost(idle, sure_after_seconds=LOST_AFTER_SECONDS))

    async def _at_once(self, answer: Answer, job: Job) -> Done:
        try:
            said = await asyncio.to_thread(judge, answer, self.service.rules, now=time.time())
        except Unreadable as error:  # it can't be asked again: the model has run
            raise ResultLost(error.message) from None
        if isinstance(said, Failed):
            raise said.error
        if isinstance(said, Running):
            raise UnknownOutcome("The AI service's answer came before its picture.")
        return await self._collector.done(job, said)
