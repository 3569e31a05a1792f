"""The adapter: one request that stays open until the pictures come.  A cancel closes the connection."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import structlog

from actors.providers.base import (
    Done,
    InvalidInput,
    Job,
    Progress,
    ProviderError,
    UnknownOutcome,
)
from actors.providers.common.adapter import HttpAdapter
from actors.providers.common.answers import Answer, pictures_in
from actors.providers.common.bills import note_cost
from actors.providers.common.event_stream import ServerEvent
from actors.providers.common.picture_sources import Source, data_uri
from actors.providers.common.refusals import refused_too
from actors.providers.common.requests import Field, Outgoing, as_json
from actors.providers.common.template import InputPicture, as_text
from actors.providers.openai.errors import as_told
from actors.providers.openai.events import StreamedAnswer
from actors.providers.openai.service import TASK_PARAMETERS, OpenAiService

ASK_SECONDS = 20.0
BROKEN_STREAM = "the stream ended before the picture was complete; its last draft is kept"

log = structlog.get_logger(__name__)


class OpenAiProvider(HttpAdapter[OpenAiService]):
    """One service in one process."""

    async def submit(self, job: Job, progress: Progress) -> Done:
        progress(5, "preparing the request")
        request = await self._request(job)
        progress(10, "waiting for the AI service")
        streamed = StreamedAnswer(self.service.partial_images)

        def listen(event: ServerEvent) -> None:
            percent = streamed.take(event)
            if percent is not None:
                progress(percent, "drafting the picture")

        try:
            answer = await self._client.ask(request, job.ai_timeout_seconds, listen)
        except UnknownOutcome:
            if streamed.document() is None:
                raise
            # The stream broke off, or its time was over: its events so far count.
            answer = Answer(200, {}, b"")
        if streamed.is_draft:
            log.warning("draft_kept", task=job.task_id, provider=self.service.name, reason=BROKEN_STREAM)
        progress(90, BROKEN_STREAM if streamed.is_draft else "collecting the pictures")
        if answer.status == 200 and not answer.body:
            answer = dataclasses.replace(answer, document=streamed.document())
        await note_cost(job, answer, self.service.rules)
        try:
            sources = await asyncio.to_thread(self._sources, answer)
        except InvalidInput as error:
            raise await self._refusals.judged(error, job, self._refuses_us) from None
        self._refusals.forget()
        return await self._collector.done(job, sources)

    async def _refuses_us(self) -> str | None:
        """The error of the key or the model, by the list of models, which costs nothing; None if none is known."""
        service = self.service
        question = Outgoing("GET", f"{service.base}/models", service.authorization)
        answer = await self._client.question(question, ASK_SECONDS)
        if why := refused_too(answer, but=(404,)):  # a server that has no such list says nothing
            return why
        listed = answer.document.get("data") if isinstance(answer.document, dict) else None
        if answer.status != 200 or not isinstance(listed, list) or not listed:
            return None
        known = {each.get("id") for each in listed if isinstance(each, dict)}
        return None if service.model in known else f"its list of models has no {service.model!r}"

    def _sources(self, answer: Answer) -> list[Source]:
        if answer.status == 200 and not answer.body and answer.document is None:
            raise UnknownOutcome("The AI service's stream ended before its picture came.")
        try:
            return pictures_in(answer, self.service.rules, now=time.time())
        except ProviderError as error:
            raise as_told(error, answer.headers) from None

    async def _request(self, job: Job) -> Outgoing:
        service = self.service
        prompt = as_text(service.prompt.render(lambda placeholder: self._values.plain(placeholder, job)))
        if not prompt.strip():
            raise InvalidInput("This needs a prompt: say what the picture shall show.")
        given = job.params.get("parameters")
        given = given if isinstance(given, dict) else {}
        asked = {name: given[name] for name in TASK_PARAMETERS if given.get(name) is not None}
        body: dict[str, Any] = {"model": service.model, "prompt": prompt, "n": len(job.pictures)}
        body |= asked | dict(service.parameters)
        if service.partial_images and len(job.pictures) == 1:
            body |= {"stream": True, "partial_images": service.partial_images}
        headers = service.authorization
        wanted = [] if service.edit_style == "none" else range(len(job.inputs))
        pictures = [await self._values.file(job, n) for n in wanted]
        if pictures and service.edit_style == "multipart":
            fields = tuple(_fields(body, pictures))
            return Outgoing("POST", f"{service.base}/images/edits", headers, fields=fields)
        if pictures:
            uris = [await asyncio.to_thread(data_uri, each.type, each.data) for each in pictures]
            body["image"] = uris[0] if len(uris) == 1 else uris
        headers["Content-Type"] = "application/json"
        return Outgoing(
            "POST", f"{service.base}/images/generations", headers, body=await asyncio.to_thread(as_json, body)
        )


def _fields(body: dict[str, Any], pictures: list[InputPicture]) -> list[Field]:
    """One picture is `image`, several are `image[]`, like in the official client."""
    name = "image" if len(pictures) == 1 else "image[]"
    return [Field(name, each.data, each.type, each.name) for each in pictures] + [
        Field(key, as_text(value)) for key, value in body.items()
    ]
