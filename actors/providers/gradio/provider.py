"""The adapter: an order joins the app's queue, and its stream stays open until the end.

The app keeps no result for a closed stream, and closing the stream removes a waiting order from the queue.  So there is
no remote job to poll later; a cancel closes the stream, and an app that is killed loses the order, which is then made
anew (`may_bill_twice`, the default).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from actors.net.fetch import NotFetched, NotFetchedNow, NotShown, TooLarge
from actors.providers.base import (
    CutOff,
    Done,
    Job,
    Progress,
    ProviderError,
    ResultLost,
    Transient,
)
from actors.providers.common.adapter import HttpAdapter
from actors.providers.common.answers import (
    Answer,
    error_in,
    names_no_error,
    no_pictures,
    plain_words,
)
from actors.providers.common.bills import note_cost
from actors.providers.common.collecting import Offered
from actors.providers.common.event_stream import ServerEvent
from actors.providers.common.picture_sources import At, Inline, Source, file_source_of, source_of
from actors.providers.common.requests import Outgoing, as_json
from actors.providers.common.template import MISSING, Placeholder, Template
from actors.providers.gradio.events import QueueStream, files_in
from actors.providers.gradio.layout import Layout, in_order, layout_of, parameters_of
from actors.providers.gradio.service import GradioService
from actors.providers.provider_context import ProviderContext
from supervisor.pictures.media_types import picture_type

ASK_SECONDS = 30.0
LAYOUT_SECONDS = 60.0  # how long the app's description is kept: it may be restarted with other endpoints


class GradioProvider(HttpAdapter[GradioService]):
    """One app in one process."""

    pictures_per_request = 1

    def __init__(self, service: GradioService, context: ProviderContext) -> None:
        super().__init__(service, context)
        self._headers = service.authorization
        self._layout: tuple[float, Layout] | None = None

    async def submit(self, job: Job, progress: Progress) -> Done:
        ends_at = time.monotonic() + job.ai_timeout_seconds
        progress(5, "preparing the request")
        layout = await self._known_layout()
        body = {
            "data": await self._data(job, layout),
            "fn_index": layout.number,
            "session_hash": (session := secrets.token_hex(8)),
        }
        headers = self._headers | {"Content-Type": "application/json"}
        encoded = await asyncio.to_thread(as_json, body)
        join = Outgoing("POST", f"{self.service.base}{layout.api}/queue/join", headers, body=encoded)
        answer = await self._client.ask(join, job.ai_timeout_seconds)
        error = error_in(answer, self.service.rules, now=time.time())
        if error is not None:
            self._layout = None  # the app may have been restarted
            raise error
        event_id = answer.document.get("event_id") if isinstance(answer.document, Mapping) else None
        stream = QueueStream(str(event_id))

        def listen(event: ServerEvent) -> None:
            told = stream.take(event)
            if told is not None:
                progress(*told)

        address = f"{self.service.base}{layout.api}/queue/data?session_hash={session}"
        left = max(1.0, ends_at - time.monotonic())
        heard = await self._hear(Outgoing("GET", address, self._headers), left, listen, stream)
        await note_cost(job, heard, self.service.rules)
        progress(90, "collecting the pictures")
        return await self._collected(job, heard, stream, layout)

    # --- the order ---

    async def _known_layout(self) -> Layout:
        """The app's description.  Raises ProviderError."""
        if self._layout is not None and time.monotonic() - self._layout[0] < LAYOUT_SECONDS:
            return self._layout[1]
        endpoint = self.service.endpoint
        layout = layout_of((await self._get("/config")).document, endpoint)
        if not isinstance(self.service.input.value, list):
            info = (await self._get(f"{layout.api}/info")).document
            layout = Layout(layout.api, layout.number, parameters_of(info, endpoint))
        self._layout = time.monotonic(), layout
        return layout

    async def _data(self, job: Job, layout: Layout) -> list[Any]:
        template = self.service.input
        files = {each for each in template.placeholders if each.input is not None and each.input[1] == "file"}
        values = await self._values.of_order(template.placeholders - files, job, [])
        for placeholder in files:
            values[placeholder] = await self._file(job, placeholder)
        if isinstance(template.value, list):  # an input without a value keeps its place
            rendered = [Template(each).render(values.__getitem__) for each in template.value]
            return [None if each is MISSING else each for each in rendered]
        return in_order(template.render(values.__getitem__), layout.parameters, self.service.endpoint)

    async def _file(self, job: Job, placeholder: Placeholder) -> Any:
        """A photo for the app: inside the request, so that none stays in the app's folder of uploads."""
        assert placeholder.input is not None
        n = placeholder.input[0]
        if n >= len(job.inputs):
            return MISSING
        (uri,) = (await self._values.of_order([Placeholder(f"input.{n}.data_uri")], job, [])).values()
        return {"url": uri, "orig_name": f"input-{n}", "meta": {"_type": "gradio.FileData"}}

    async def _hear(self, request: Outgoing, seconds: float, listen: Any, stream: QueueStream) -> Answer:
        """The stream's end.  Raises ProviderError for one that ended before the event did."""
        try:
            answer = await self._client.ask(request, seconds, listen)
        except ProviderError:
            if stream.document is None:
                raise
            answer = Answer(200, {}, b"")  # the stream broke off after the result
        if stream.document is not None:
            return Answer(200, answer.headers, b"", stream.document)
        if stream.trouble:
            said = plain_words(stream.trouble, self.service.rules.hide)
            raise CutOff(f"The Gradio app has lost the order: {said}")
        if answer.status != 200:  # the app was restarted between the order and the stream
            raise CutOff(f"The Gradio app does not know the order (HTTP {answer.status}).")
        raise CutOff("The Gradio app's stream ended before its picture came.")

    # --- results ---

    async def _collected(self, job: Job, answer: Answer, stream: QueueStream, layout: Layout) -> Done:
        """Raises ProviderError."""
        rules = self.service.rules
        found = self._found(answer, stream)
        data = found if "json" in job.outputs else None
        if rules.data is not None:
            data = next(iter(rules.data.find(answer.document)), None)
        if job.wants_files:
            offered = [
                each for file in files_in(found) if (each := self._offered(job, file, layout)) is not None
            ]
            done = await self._collector.told_apart(job, offered) if offered or data is None else Done()
        elif "images" in job.outputs:
            sources = await self._sources(found, answer, layout, len(job.pictures))
            done = await self._collector.done(job, sources)
        else:
            done = Done()
        return dataclasses.replace(done, data=data)

    def _found(self, answer: Answer, stream: QueueStream) -> Any:
        """What the settings name of its output, or all of it.  Raises the error that a failed event stands for."""
        rules = self.service.rules
        if stream.failed:
            if names_no_error(answer, rules):
                raise ProviderError(
                    "The Gradio app has failed and does not say why: start it with show_error=True."
                )
            raise no_pictures(answer, rules, now=time.time())
        places = self.service.wanted
        if places:
            return [value for path in places for value in path.find(answer.document)]
        return answer.document.get("data", answer.document)

    async def _sources(self, found: Any, answer: Answer, layout: Layout, count: int) -> list[Source]:
        sources: list[Source] = []
        for file in files_in(found):
            with contextlib.suppress(ResultLost):  # larger than the limit of an answer: probably a film
                source = await self._source(file, layout)
                if source is not None:
                    sources.append(source)
            if len(sources) == count:
                break
        if not sources:
            texts = found if isinstance(found, list) else []
            sources = [each for text in texts if (each := source_of(text)) is not None]
        if not sources:
            raise no_pictures(answer, self.service.rules, now=time.time())
        return sources

    async def _source(self, file: Mapping[str, Any], layout: Layout) -> Source | None:
        """The picture in a file of the app; None if it is not a picture."""
        url = str(file.get("url") or "")
        own = self._own_path(file, layout)
        if own is None:
            return At(url) if url.startswith(("http://", "https://")) else source_of(url)
        answer = await self._get(own)
        return Inline(answer.body) if picture_type(answer.body) is not None else None

    def _own_path(self, file: Mapping[str, Any], layout: Layout) -> str | None:
        """Where the app itself shows a file; None for one that is elsewhere."""
        path, url = file.get("path"), str(file.get("url") or "")
        is_own = not url or urlsplit(url).netloc == urlsplit(self.service.base).netloc or "/file=" in url
        return f"{layout.api}/file={quote(str(path))}" if path and is_own else None

    def _offered(self, job: Job, file: Mapping[str, Any], layout: Layout) -> Offered | None:
        """A file of whatever kind; None for anything else."""
        own = self._own_path(file, layout)
        if own is None:
            source = file_source_of(file)
            return None if source is None else self._collector.offered(job, source)

        async def put_down(target: Path) -> NotFetched | None:
            request = Outgoing("GET", self.service.base + own, self._headers)
            most, stalled = self.service.file_bytes, ASK_SECONDS
            try:
                answer = await job.when_there_is_room(
                    lambda: self._client.download(request, target, most_bytes=most, stalled_seconds=stalled)
                )
            except ResultLost as error:
                return TooLarge(error.message)
            except Transient as error:
                return NotFetchedNow(error.message)
            return None if answer.status == 200 else NotShown(f"The Gradio app answers {answer.status}.")

        return Offered(str(file.get("orig_name") or PurePosixPath(str(file.get("path"))).name), put_down)

    async def _get(self, path: str) -> Answer:
        request = Outgoing("GET", self.service.base + path, self._headers)
        answer = await self._client.question(request, ASK_SECONDS)
        self._refuse_question(answer)
        if answer.status != 200:
            raise Transient(f"The Gradio app can't be asked just now (HTTP {answer.status}).")
        return answer
