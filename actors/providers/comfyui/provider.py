"""The adapter: it uploads the pictures, queues the workflow with our own id, and reads its end from the history.

A prompt is a remote job, so it takes no slot while it waits in ComfyUI's queue, where jobs spend most of their time:
the server runs one at a time.  Live progress comes only by WebSocket, and only to the client that queued the prompt.
Every prompt has its own client id, and a poll of a *running* one listens with that id for WATCH_SECONDS: the server
repeats its state to a late listener.  So progress is at most seconds old, any worker can show it after any crash, and
no connection outlives its poll.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import structlog

from actors.net.fetch import NotFetched, TooLarge
from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    InvalidInput,
    Job,
    Lost,
    Progress,
    ProviderError,
    ResultGone,
    ResultLost,
    Running,
    Transient,
)
from actors.providers.comfyui.history import (
    RUNNING,
    end_of,
    history_of,
    place_in_queue,
    uploads_in,
    values_of,
)
from actors.providers.comfyui.progress import WorkflowProgress
from actors.providers.comfyui.service import ComfyService
from actors.providers.common.adapter import HttpAdapter
from actors.providers.common.answers import Answer
from actors.providers.common.bills import note_cost
from actors.providers.common.collecting import Offered
from actors.providers.common.picture_sources import Inline, Source
from actors.providers.common.requests import Field, Outgoing, as_json
from actors.providers.common.template import MISSING, Placeholder
from actors.providers.provider_context import ProviderContext
from supervisor.pictures.media_types import picture_type

ASK_SECONDS = 30.0
HAND_IN_SECONDS = 60.0
PAINT_SECONDS = 5.0  # for overwriting one photo; the result waits for it
WATCH_SECONDS = 1.5
RUNNING_PAUSE_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.5
PAUSE_A_PLACE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 10.0
FOLDER = "darkroom"
# One grey pixel, a PNG.
BLANK = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
# our own namespace, so that no other program makes the same ids
_IDS = uuid.UUID("7b0c8f4e-3a52-4f0e-9a3a-0f6d1d0c2b11")

log = structlog.get_logger(__name__)


class ComfyProvider(HttpAdapter[ComfyService]):
    """One server in one process."""

    hands_in = True

    def __init__(self, service: ComfyService, context: ProviderContext) -> None:
        super().__init__(service, context)
        self.pictures_per_request = 0 if service.workflow.makes_several else 1
        self._headers = service.authorization

    async def submit(self, job: Job, progress: Progress) -> Accepted:
        prompt_id = _prompt_id(job)
        progress(5, "uploading the pictures")
        values = await self._placeholder_values(job, prompt_id)
        graph = await asyncio.to_thread(self.service.workflow.render, values.__getitem__)
        body = as_json({"prompt": graph, "prompt_id": prompt_id, "client_id": prompt_id})
        headers = self._headers | {"Content-Type": "application/json"}
        progress(10, "queueing the workflow")
        request = Outgoing("POST", f"{self.service.base}/prompt", headers, body=body)
        answer = await self._client.ask(request, min(HAND_IN_SECONDS, job.ai_timeout_seconds))
        accepted = self._accepted(prompt_id, self._uploads(values))
        try:
            self._refuse(answer)
            if _refused_nodes(answer.document) & set(self.service.outputs or self.service.workflow.nodes):
                with contextlib.suppress(ProviderError):
                    await self.cancel(accepted)
                self._refuse(dataclasses.replace(answer, status=400))
        except InvalidInput as error:
            await self._paint_over(accepted.details["uploads"])
            raise await self._refusals.judged(error, job, self._refuses_us) from None
        except ProviderError:
            await self._paint_over(accepted.details["uploads"])
            raise
        self._refusals.forget()
        return accepted

    async def look_up(self, job: Job) -> Accepted | None:
        """ComfyUI would run the same id twice, but it can be asked for the id before."""
        prompt_id = _prompt_id(job)
        queue = (await self._get("/queue")).document
        if place_in_queue(queue, prompt_id) is not None:
            return self._accepted(prompt_id, uploads_in(queue, f"{FOLDER}/{prompt_id}-"))
        history = (await self._get(f"/history/{prompt_id}")).document
        if history_of(history, prompt_id) is None:
            return None
        return self._accepted(prompt_id, uploads_in(history, f"{FOLDER}/{prompt_id}-"))

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        place = await self._place(remote.remote_id)
        if place == RUNNING:
            progress = await self._watch(remote.remote_id)
            return Running(progress, "running in ComfyUI", RUNNING_PAUSE_SECONDS)
        if place is not None:
            pause = min(LONGEST_PAUSE_SECONDS, place * PAUSE_A_PLACE_SECONDS)
            return Running(None, f"number {place} in ComfyUI's queue", pause)
        answer = await self._get(f"/history/{remote.remote_id}")
        await note_cost(job, answer, self.service.rules)
        found = end_of(
            answer.document,
            remote.remote_id,
            self.service.outputs,
            self.service.rules.hide,
            of_any_kind=job.wants_files,
        )
        if isinstance(found, Failed):
            ended: Done | Failed = found
        else:
            try:
                ended = await self._collected(job, found)
            except ResultLost as error:
                ended = Failed(error)
        # this counts only when it is repeated
        if not (isinstance(ended, Failed) and isinstance(ended.error, Lost)):
            await self._paint_over(remote.details.get("uploads", []))
        return ended

    async def cancel(self, remote: Accepted) -> bool:
        """Remove it from the queue, or stop it if it runs: older servers stop any running prompt."""
        await self._post("/queue", {"delete": [remote.remote_id]})
        place = await self._place(remote.remote_id)
        if place == RUNNING:
            await self._post("/interrupt", {"prompt_id": remote.remote_id})
            place = await self._place(remote.remote_id)
        if place is None:
            await self._paint_over(remote.details.get("uploads", []))
        return place is None

    # --- the order ---

    async def _placeholder_values(self, job: Job, prompt_id: str) -> dict[Placeholder, Any]:
        placeholders = self.service.workflow.template.placeholders
        uploads = {each for each in placeholders if each.input is not None and each.input[1] == "file"}
        values = await self._values.of_order(placeholders - uploads, job, [])
        names: dict[int, str] = {}
        for placeholder in uploads:
            assert placeholder.input is not None
            n = placeholder.input[0]
            if n < len(job.inputs) and n not in names:
                names[n] = await self._upload(job, n, prompt_id)
            values[placeholder] = names.get(n, MISSING)
        return values

    async def _upload(self, job: Job, n: int, prompt_id: str) -> str:
        """The name of the picture for a node."""
        picture = await self._values.file(job, n)
        seconds = min(HAND_IN_SECONDS, job.ai_timeout_seconds)
        answer = await self._put(
            picture.data, picture.type, f"{prompt_id}-{picture.name}", FOLDER, seconds=seconds
        )
        said = answer.document if isinstance(answer.document, dict) else {}
        if not said.get("name"):
            raise Transient("ComfyUI does not say where it has put an uploaded picture.")
        folder = said.get("subfolder")
        return f"{folder}/{said['name']}" if folder else str(said["name"])

    async def _put(self, data: bytes, type_: str, name: str, folder: str, *, seconds: float) -> Answer:
        """Put a picture into ComfyUI's folder of inputs, in place of one of the same name."""
        fields = (
            Field("image", data, type_, name),
            Field("subfolder", folder),
            Field("type", "input"),
            Field("overwrite", "true"),
        )
        request = Outgoing("POST", f"{self.service.base}/upload/image", self._headers, fields=fields)
        answer = await self._client.question(request, seconds)
        self._refuse_question(answer)
        return answer

    def _uploads(self, values: Mapping[Placeholder, Any]) -> list[str]:
        """The names of this order's pictures in ComfyUI's folder."""
        return sorted(
            {str(values[each]) for each in values if each.input is not None and each.input[1] == "file"}
            - {str(MISSING)}
        )

    async def _paint_over(self, uploads: Sequence[str]) -> None:
        """Overwrite the user's photos, because the job is over and ComfyUI deletes no input."""
        for name in uploads:
            folder, _, file = name.rpartition("/")
            try:
                await self._put(BLANK, "image/png", file, folder, seconds=PAINT_SECONDS)
            except ProviderError as error:
                log.warning("photo_left_behind", provider=self.service.name, file=name, reason=str(error))

    def _accepted(self, prompt_id: str, uploads: Sequence[str] = ()) -> Accepted:
        return Accepted(prompt_id, FIRST_PAUSE_SECONDS, {"uploads": list(uploads)})

    # --- polls ---

    async def _place(self, prompt_id: str) -> int | None:
        return place_in_queue((await self._get("/queue")).document, prompt_id)

    async def _collected(self, job: Job, paths: Sequence[str]) -> Done:
        """Raises as the collector."""
        if job.wants_files:
            offered = [
                Offered(parse_qs(urlsplit(path).query)["filename"][0], partial(self._put_down, job, path))
                for path in paths
            ]
            return await self._collector.told_apart(job, offered, may_wait=True)
        return await self._collector.done(job, await self._pictures(paths, len(job.pictures)), may_wait=True)

    async def _put_down(self, job: Job, path: str, target: Path) -> NotFetched | None:
        """Write one file down.  Raises ResultGone, Transient."""
        request = Outgoing("GET", self.service.base + path, self._headers)
        try:
            answer = await job.when_there_is_room(
                lambda: self._client.download(
                    request, target, most_bytes=self.service.file_bytes, stalled_seconds=ASK_SECONDS
                )
            )
        except ResultLost as error:
            return TooLarge(error.message)
        self._refuse_to_show(answer, ResultGone)
        return None

    async def _pictures(self, paths: Sequence[str], count: int) -> list[Source]:
        """The first of these files that are pictures, by their bytes.

        Raises ResultLost when none is, ResultGone when one is not shown.
        """
        found: list[Source] = []
        for path in paths:
            if len(found) == count:
                break
            with contextlib.suppress(ResultLost):  # larger than the limit of an answer: probably a film
                body = (await self._get(path, gone=ResultGone)).body
                if picture_type(body) is not None:
                    found.append(Inline(body))
        if not found:
            raise ResultLost("ComfyUI's workflow has ended, but none of its files is a picture.")
        return found

    async def _get(self, path: str, *, gone: type[Transient] = Transient) -> Answer:
        request = Outgoing("GET", self.service.base + path, self._headers)
        answer = await self._client.question(request, ASK_SECONDS)
        self._refuse_to_show(answer, gone)
        return answer

    def _refuse_to_show(self, answer: Answer, gone: type[Transient]) -> None:
        # about one file, or from a proxy: it does not mean that every job fails
        if answer.status in (404, 410):
            raise gone(f"ComfyUI does not show what it was asked for (HTTP {answer.status}).")
        if answer.status != 200:
            self._refuse_question(answer)
            raise Transient(f"ComfyUI can't be asked just now (HTTP {answer.status}).")

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        headers = self._headers | {"Content-Type": "application/json"}
        request = Outgoing("POST", self.service.base + path, headers, body=as_json(body))
        self._refuse_question(await self._client.question(request, ASK_SECONDS))

    async def _refuses_us(self) -> str | None:
        """Why every order is refused: a node, or a value of the file, that the server does not have."""
        known: dict[str, Mapping[str, Any]] = {}
        for node, class_, name, text in self.service.workflow.constants:
            if class_ not in known:
                said = (await self._get(f"/object_info/{quote(class_, safe='')}")).document
                if not isinstance(said, Mapping):
                    return None
                if not said.get(class_):
                    return f"the server has no node {class_!r} (node {node} of the workflow)"
                known[class_] = said[class_]
            values = values_of(known[class_], name)
            if name and values is not None and text not in values:
                return f"the server knows no {name} {text!r} (node {node} of the workflow)"
        return None

    async def _watch(self, prompt_id: str) -> int | None:
        """The percentage of a running prompt; None if the server does not report within WATCH_SECONDS."""
        progress = WorkflowProgress(prompt_id, len(self.service.workflow.nodes))
        address = f"{self.service.base}/ws?clientId={prompt_id}"
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):  # the history decides
            async with (
                asyncio.timeout(WATCH_SECONDS),
                self._client.socket(address, self._headers) as socket,
            ):
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        progress.take(message.data)
                    if progress.ended:
                        break
        return progress.percent()


def _refused_nodes(document: Any) -> set[str]:
    """The nodes whose files will be missing from an accepted prompt: ComfyUI runs the valid part of a partly wrong
    workflow,
    and reports the errors beside its 200."""
    errors = document.get("node_errors") if isinstance(document, Mapping) else None
    of_nodes = errors.values() if isinstance(errors, Mapping) else []
    dependent = (each.get("dependent_outputs") for each in of_nodes if isinstance(each, Mapping))
    return {str(node) for nodes in dependent if isinstance(nodes, list) for node in nodes}


def _prompt_id(job: Job) -> str:
    """Equal for the same request, so that it can be looked up."""
    return str(uuid.uuid5(_IDS, job.reference))
