"""The adapter for a cog server.  It keeps no results, so there are two ways to get them.

`sync`: the connection stays open; closing it cancels the prediction.  `callback`: the prediction is submitted with our
own id and the server reports its end.  A report has at most 1 MiB, so a server with larger pictures must be started
with `--upload-url`.  Meanwhile the server only shows whether it is busy: if it is idle for a while without a report, it
has lost the job (it was restarted, for example).

While its model loads, a server answers 503 to orders, and also for ever after loading has failed: only its health check
shows the difference.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    Job,
    Lost,
    NotReady,
    Progress,
    ProviderDown,
    ResultLost,
    Running,
    Transient,
    UnknownOutcome,
    Unreadable,
)
from actors.providers.common.answers import (
    MOST_DETAIL_CHARACTERS,
    Answer,
    plain_words,
    question_error_in,
)
from actors.providers.common.bills import note_cost
from actors.providers.provider_context import ProviderContext
from actors.providers.replicate.provider import ASK_SECONDS, HAND_IN_SECONDS, ReplicateProvider
from actors.providers.replicate.service import ReplicateService

POLL_SECONDS = 5.0
LOST_AFTER_SECONDS = 30.0  # of idleness: a report may be under way, or be repeated


class CogProvider(ReplicateProvider):
    """One server in one process."""

    def __init__(self, service: ReplicateService, context: ProviderContext) -> None:
        super().__init__(service, context)
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
                answer = await self._order("POST", "/predictions", body, {}, job.ai_timeout_seconds)
                return await self._at_once(answer, job)
            remote_id = hashlib.sha256(job.reference.encode()).hexdigest()[:32]
            body |= {"webhook": job.callback_url, "webhook_events_filter": ["completed"]}
            async_ = {"Prefer": "respond-async"}
            seconds = min(HAND_IN_SECONDS, job.ai_timeout_seconds)
            await self._order("PUT", f"/predictions/{remote_id}", body, async_, seconds)
            details = {"put_down": put_down, "accepted_at": time.time()}
            accepted = Accepted(remote_id, POLL_SECONDS, details, reports=True)
            return accepted
        finally:
            if accepted is None:
                await self._values.take_away(put_down)

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        state, failed = await self._health()
        if failed is not None:
            return Failed(failed)
        if state in ("STARTING", "UNKNOWN"):  # restarted: it knows no earlier job
            starting = "The AI service is starting, and has not reported the job."
            return Failed(Lost(starting, sure_after_seconds=LOST_AFTER_SECONDS))
        if state != "READY":
            return Running(stage="running at the AI service", poll_after_seconds=POLL_SECONDS)
        idle = "The AI service is idle, and has not reported the job."
        return Failed(Lost(idle, sure_after_seconds=LOST_AFTER_SECONDS))

    async def _order(
        self, method: str, path: str, body: dict[str, Any], headers: dict[str, str], seconds: float
    ) -> Answer:
        """The answer to an order.  Raises ProviderError; for a 503, the health check decides its class."""
        try:
            return await self._send(method, path, body, headers, seconds)
        except NotReady as error:
            _, failed = await self._health()
            raise failed or error from None

    async def _health(self) -> tuple[str, ProviderDown | None]:
        """Its state, and the error if its model could not be loaded.  Raises Transient, Unreadable."""
        answer = await self._client.question(self._outgoing("GET", "/health-check"), ASK_SECONDS)
        said = answer.document if isinstance(answer.document, dict) else {}
        state = said.get("status")
        if not isinstance(state, str):
            if 200 <= answer.status < 300:
                raise Unreadable(
                    "The AI service's /health-check does not say how it is: is this a cog server?"
                )
            error = self._http_error(answer, question_error_in)
            raise error or Transient("The AI service does not say how it is.")
        if state not in ("SETUP_FAILED", "DEFUNCT"):
            return state, None
        logs = (said.get("setup") or {}).get("logs") if isinstance(said.get("setup"), dict) else ""
        lines = [line for line in str(logs or "").splitlines() if line.strip()]
        last = plain_words(lines[-1] if lines else "it left no log", self.service.rules.hide)
        down = ProviderDown(f"The AI service's model could not be loaded: {last}")
        down.detail = plain_words("\n".join(lines[-20:]), self.service.rules.hide, MOST_DETAIL_CHARACTERS)
        return state, down

    async def _at_once(self, answer: Answer, job: Job) -> Done:
        await note_cost(job, answer, self.service.rules)
        try:
            said = await self._judged(answer, job)
        except Unreadable as error:  # the request can't be repeated: the model has run
            raise ResultLost(error.message) from None
        if isinstance(said, Failed):
            raise said.error
        if isinstance(said, Running):
            raise UnknownOutcome("The AI service's answer came before its picture.")
        return await self._collected(job, answer, said)
