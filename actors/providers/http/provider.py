"""The adapter: a job becomes one request, its answer pictures.

The service's answer is believed in nothing: each picture is bounded, known by its first bytes, and decoded and encoded
anew in an image child before it counts as made.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog

from actors.fetch import NotFetched, NotFetchedNow, fetch
from actors.image_processes import ImageProcessDied, ImageProcesses, ImageWorkFailed
from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    InvalidInput,
    Job,
    Lost,
    MadeImage,
    Progress,
    ResultLost,
    Running,
    Transient,
)
from actors.providers.http.answers import Answer, pictures_in
from actors.providers.http.client import HttpClient
from actors.providers.http.picture_sources import EXTENSIONS, At, Source, data_uri, picture_type
from actors.providers.http.service import Service
from actors.providers.http.template import MISSING, InputPicture, Placeholder, param
from supervisor.files import FileStore
from supervisor.links import LinkSigner

PLAIN_SECONDS = 60.0  # for an image child to make the pictures of one answer plain
FETCHES = 3  # of one picture: it is paid for, so a hiccup of the server that keeps it is no reason to lose it
FETCH_AGAIN_SECONDS = 1.0
LARGE_BYTES = 262_144  # what is larger is encoded and decoded in a thread

log = structlog.get_logger(__name__)


class HttpProvider:
    """One service in one process.  images, files: the worker's.  links: sign the addresses of our pictures.

    base_url: the address under which the service reaches us; most_pixels: of one picture.
    """

    paid = True

    def __init__(
        self,
        service: Service,
        *,
        images: ImageProcesses,
        files: FileStore,
        links: LinkSigner,
        base_url: str,
        most_pixels: int,
    ) -> None:
        self.may_bill_twice = service.may_bill_twice
        self.pictures_per_request = service.pictures_per_request
        self._service = service
        self._client = HttpClient(most_bytes=service.answer_bytes)
        self._images = images
        self._files = files
        self._links = links
        self._base_url = base_url.rstrip("/")
        self._most_pixels = most_pixels

    async def submit(self, job: Job, progress: Progress) -> Done:
        """Ask the service and wait for its pictures.  A cancel closes the connection.  Raises ProviderError."""
        progress(5, "preparing the request")
        async with self._values(job) as values:
            request = await asyncio.to_thread(self._service.request.render, values.__getitem__)
            progress(10, "waiting for the AI service")
            answer = await self._client.ask(request, job.ai_timeout_seconds)
        progress(85, "collecting the pictures")
        return Done(await self._collected(job, await self._sources(answer)))

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        return Failed(Lost("This service answers at once and has no remote jobs."))

    async def cancel(self, remote: Accepted) -> bool:
        return True

    async def close(self) -> None:
        await self._client.close()

    # --- the request ---

    @contextlib.asynccontextmanager
    async def _values(self, job: Job) -> AsyncIterator[dict[Placeholder, Any]]:
        """A value for each placeholder of the request; what was put down for the service to fetch is taken away."""
        put_down: list[str] = []
        try:
            yield {
                placeholder: await self._value(job, placeholder, put_down)
                for placeholder in self._service.request.placeholders
            }
        finally:
            for key in put_down:
                await asyncio.shield(asyncio.to_thread(self._files.delete, key))

    async def _value(self, job: Job, placeholder: Placeholder, put_down: list[str]) -> Any:
        if placeholder.input is not None:
            n, form = placeholder.input
            return await self._picture(job, n, form, put_down) if n < len(job.inputs) else MISSING
        if placeholder.secret is not None:
            return self._service.secrets[placeholder.secret]
        if placeholder.name.startswith("params."):
            return param({"prompt": "", "count": len(job.pictures)} | dict(job.params), placeholder)
        return {
            "task_id": job.task_id,
            "reference": job.reference,
            "count": len(job.pictures),
            "seed": job.seed,
        }[placeholder.name]

    async def _picture(self, job: Job, n: int, form: str, put_down: list[str]) -> Any:
        key = job.input_keys[n]
        if form == "url" and key is not None:
            return self._base_url + self._links.link(key)
        path = job.inputs[n] if key is not None else await self._plain_input(job, n)
        data = await asyncio.to_thread(path.read_bytes)
        type_ = picture_type(data)
        if type_ is None:
            raise InvalidInput(f"Picture {n + 1} can't be read.", code="image_unusable")
        name = f"input-{n}.{EXTENSIONS[type_]}"
        if form == "bytes":
            return InputPicture(data, type_, name)
        if form == "data_uri":
            return await asyncio.to_thread(data_uri, type_, data)
        key = f"inputs/{job.reference.replace('.', '-') or job.task_id}/{name}"
        put_down.append(key)
        await asyncio.to_thread(self._files.put, key, data)
        return self._base_url + self._links.link(key)

    async def _plain_input(self, job: Job, n: int) -> Path:
        """A picture that was given by its address, as an upload would be: upright, bounded, without metadata."""
        for path in job.folder.glob(f"plain-{n}.*"):  # made for another placeholder
            return path
        try:
            made = await self._plain(job, [{"n": n, "path": str(job.inputs[n])}], name="plain-")
        except ImageWorkFailed as failure:
            raise InvalidInput(failure.message, code="image_unusable") from None
        except (ImageProcessDied, TimeoutError):
            raise Transient(f"Picture {n + 1} could not be read.", code="worker_died") from None
        return Path(made[0]["path"])

    # --- the answer ---

    async def _sources(self, answer: Answer) -> list[Source]:
        def judge() -> list[Source]:
            return pictures_in(answer, self._service.rules, now=time.time())

        large = len(answer.body) > LARGE_BYTES
        return await asyncio.to_thread(judge) if large else judge()

    async def _collected(self, job: Job, sources: list[Source]) -> tuple[MadeImage, ...]:
        """As many of the ordered pictures as can be had.  Raises ResultLost when none can."""
        wanted = list(zip(job.pictures, sources, strict=False))
        fetched = await asyncio.gather(
            *(self._fetched(source, job.folder / f"answer-{n}") for n, source in wanted)
        )
        files = [{"n": n, "path": str(path)} for (n, _), path in zip(wanted, fetched, strict=True) if path]
        if not files:
            raise ResultLost("The AI service has made pictures, but they could not be fetched from it.")
        try:
            made = await self._plain(job, files)
        except ImageWorkFailed as failure:
            raise ResultLost(
                f"The AI service has sent something that is no usable picture: {failure.message}"
            ) from None
        except (ImageProcessDied, TimeoutError):
            raise ResultLost("The AI service has sent a picture that could not be read.") from None
        return tuple(MadeImage(each["n"], Path(each["path"]), each["width"], each["height"]) for each in made)

    async def _fetched(self, source: Source, path: Path) -> Path | None:
        """A picture as a file of ours, as the service made it; None when it can't be had."""
        if not isinstance(source, At):
            await asyncio.to_thread(path.write_bytes, source.data)
            return path
        hide = self._service.rules.hide
        for again in range(FETCHES):
            try:
                data = await fetch(
                    source.address,
                    most_bytes=self._service.answer_bytes,
                    schemes=("http", "https"),
                    allow_private_addresses=self._service.allow_private_addresses,
                )
                await asyncio.to_thread(path.write_bytes, data)
                return path
            except NotFetchedNow as error:
                log.info("picture_not_fetched", provider=self._service.name, reason=hide(str(error)))
                if again + 1 < FETCHES:
                    await asyncio.sleep(FETCH_AGAIN_SECONDS)
            except NotFetched as error:
                log.warning("picture_refused", provider=self._service.name, reason=hide(str(error)))
                break
        return None

    async def _plain(self, job: Job, files: list[dict[str, Any]], name: str = "") -> list[dict[str, Any]]:
        request = {
            "task": "plain",
            "files": files,
            "out": str(job.folder),
            "most_pixels": self._most_pixels,
            "name": name,
        }
        return await self._images.run(request, _silent, PLAIN_SECONDS, own_child=job.own_process)


def _silent(percent: int, stage: str) -> None:
    """A child that makes pictures plain has no progress worth showing."""
