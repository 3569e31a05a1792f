"""Turns a service's results into our own pictures: limited in size, recognised by their first bytes, decoded and
encoded anew in an image child.  Nothing that a service declares is trusted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import structlog

from actors.files.scratch import write_whole
from actors.net.fetch import Allowed, NotFetched, NotFetchedNow, NotShown, TooLarge, fetch, fetch_to
from actors.providers.base import Done, Job, MadeFile, MadeImage, ResultGone, ResultLost, Transient
from actors.providers.common.picture_sources import At, Inline, Source
from actors.providers.common.plain_pictures import made_image, make_plain
from actors.providers.common.service import HttpService
from actors.providers.provider_context import ProviderContext
from supervisor.media.file_kinds import HEAD_BYTES, file_kind
from supervisor.pictures.child_process import ImageProcessDied, ImageWorkFailed
from supervisor.pictures.media_types import picture_type

FETCHES = 3  # tries for one picture: it is paid for, so a temporary error of its server must not lose it
FETCH_AGAIN_SECONDS = 1.0
MOST_FILES = 100
MOST_PASSED_OVER = 16  # files of one answer that are not pictures

log = structlog.get_logger(__name__)


class NoPicture(NotFetched):
    """The fetched file is not of the expected kind."""


@dataclass(frozen=True)
class Offered:
    """A made file of any kind. put_down: writes it to a path, or returns the reason why it cannot; raises a
    ProviderError if the download should be tried again."""

    name: str
    put_down: Callable[[Path], Awaitable[NotFetched | None]]


class Collector:
    """Collects for one service."""

    def __init__(self, service: HttpService, context: ProviderContext) -> None:
        self._name, self._context, self._hide = service.name, context, service.rules.hide
        self._most_bytes = service.answer_bytes
        self._allowed = Allowed(
            ("http", "https"), service.allow_private_addresses, context.translation_prefixes
        )
        self._most_file_bytes = service.file_bytes

    async def done(self, job: Job, sources: Sequence[Source], *, may_wait: bool = False) -> Done:
        """As many of the ordered pictures as possible.  Raises ResultLost if there is none.

        may_wait: the service keeps them, so if one can't be fetched now, or none is shown, Transient is raised, and we
        try again later.  If the disk is full, the job decides: wait, or raise its error.
        """
        fetched = await self._fetched_for(job, sources)
        is_none_shown = bool(fetched) and all(isinstance(each, NotShown) for each in fetched)
        if may_wait and is_none_shown:
            raise ResultGone("The AI service does not show its pictures.")
        if may_wait and any(isinstance(each, NotFetchedNow) for each in fetched):
            raise Transient("The AI service's pictures can't be fetched just now.")
        files = [
            {"n": n, "path": str(path)}
            for n, path in zip(job.pictures, fetched, strict=False)
            if isinstance(path, Path)
        ]
        if any(isinstance(each, NoPicture) for each in fetched):
            raise ResultLost("The AI service has sent something that is no usable picture.")
        if not files:
            raise ResultLost("The AI service has made pictures, but they could not be fetched from it.")
        return Done(await self._plain(job, files))

    async def files(
        self, job: Job, sources: Sequence[Source], *, may_wait: bool = False
    ) -> tuple[MadeFile, ...]:
        """Films, sound and other files, one after the other, written directly to the disk: none is completely in
        memory.

        Raises as `done`.
        """
        made: list[MadeFile] = []
        for number, source in enumerate(sources[:MOST_FILES]):
            path = job.folder / f"file-{number}"
            failure = await self._put_down(job, source, path)
            if failure is None:
                made.append(MadeFile(path, _name_of(source)))
            elif may_wait and isinstance(failure, NotFetchedNow):
                raise Transient("The AI service's files can't be fetched just now.")
        if sources and not made:
            raise ResultLost("The AI service has made files, but they could not be fetched from it.")
        return tuple(made)

    def offered(self, job: Job, source: Source) -> Offered:
        """What stands in an answer, as an address or as it is."""
        return Offered(_name_of(source), lambda path: self._put_down(job, source, path))

    async def told_apart(self, job: Job, offered: Sequence[Offered], *, may_wait: bool = False) -> Done:
        """The made files that the order's type returns, recognised by their bytes; none is whole in memory.  Where the
        type gives back no pictures, a picture is a file like others.  Raises as `done`.
        """
        pictures: list[dict[str, Any]] = []
        files: list[MadeFile] = []
        failures: list[NotFetched] = []
        for number, each in enumerate(offered[:MOST_FILES]):
            path = job.folder / f"made-{number}"
            failure = await each.put_down(path)
            if failure is not None:
                failures.append(failure)
                continue
            kind = await asyncio.to_thread(_kind_of, path)
            if kind == "images" and "images" not in job.outputs:
                kind = "files"
            if kind == "images" and len(pictures) < len(job.pictures):
                pictures.append({"n": job.pictures[len(pictures)], "path": str(path)})
            elif kind != "images" and kind in job.outputs:
                files.append(MadeFile(path, each.name))
            else:
                await asyncio.to_thread(path.unlink)
        is_none_shown = bool(failures) and all(isinstance(each, NotShown) for each in failures)
        if may_wait and is_none_shown and not (pictures or files):
            raise ResultGone("The AI service does not show its files.")
        if may_wait and any(isinstance(each, NotFetchedNow) for each in failures):
            raise Transient("The AI service's files can't be fetched just now.")
        if not (pictures or files):
            raise ResultLost(
                "The AI service has made files, but they could not be fetched from it."
                if failures
                else f"The AI service has made nothing of what this type gives back ({', '.join(job.outputs)})."
            )
        images = await self._plain(job, pictures) if pictures else ()
        return Done(images, tuple(files))

    async def _put_down(self, job: Job, source: Source, path: Path) -> NotFetched | None:
        """Write one file; or the reason why that is impossible."""
        if isinstance(source, Inline):
            inline = source.data
            await job.when_there_is_room(lambda: asyncio.to_thread(write_whole, path, inline))
            return None

        async def write() -> None:
            await job.when_there_is_room(
                lambda: fetch_to(
                    path, source.address, most_bytes=self._most_file_bytes, allowed=self._allowed
                )
            )

        return await self._several_tries(write, "file_not_fetched")

    async def _several_tries(
        self, fetched: Callable[[], Awaitable[NotFetched | None]], event: str
    ) -> NotFetched | None:
        """None when it has been fetched; or the reason why that is impossible.  event: for the log, of a failure."""
        for again in range(FETCHES):
            if again:
                await asyncio.sleep(FETCH_AGAIN_SECONDS)
            try:
                return await fetched()
            except NotFetched as error:
                failure = error
                if not isinstance(error, NotFetchedNow):
                    break
        log.warning(event, provider=self._name, reason=self._hide(str(failure)))
        return failure

    async def _plain(self, job: Job, files: list[dict[str, Any]]) -> tuple[MadeImage, ...]:
        """Raises ResultLost."""
        try:
            made = await self._made_plain(job, files)
        except ImageWorkFailed as failure:
            raise ResultLost(
                f"The AI service has sent something that is no usable picture: {failure.message}"
            ) from None
        except (ImageProcessDied, TimeoutError):
            raise ResultLost("The AI service has sent a picture that could not be read.") from None
        return tuple(made_image(each) for each in made)

    async def _made_plain(self, job: Job, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """With thumbnails.  If the child dies, once more without, so that a paid picture is not lost for a
        thumbnail."""
        try:
            return await make_plain(self._context, job, files, thumbnails=True)
        except ImageProcessDied:
            log.warning("image_child_died", provider=self._name, next="the pictures without thumbnails")
            return await make_plain(self._context, job, files)

    async def _fetched_for(self, job: Job, sources: Sequence[Source]) -> list[Path | NotFetched]:
        """One for each ordered picture, as far as there are sources.

        A file that is not a picture (a film, a sound, a model, the order's own data), or is too large, is skipped, so
        that it does not hide the pictures after it.  If every file is like this, these are returned.
        """
        wanted, found, passed_over = len(job.pictures), list[Path | NotFetched](), list[Path | NotFetched]()
        left = list(enumerate(sources))[: wanted + MOST_PASSED_OVER]
        while left and len(found) < wanted:
            missing = wanted - len(found)
            asked, left = left[:missing], left[missing:]
            fetched = await asyncio.gather(
                *(self._fetched(job, source, job.folder / f"answer-{number}") for number, source in asked)
            )
            for each in fetched:
                (passed_over if isinstance(each, NoPicture | TooLarge) else found).append(each)
        return found or passed_over

    async def _fetched(self, job: Job, source: Source, path: Path) -> Path | NotFetched:
        """A picture as one of our files, as the service made it; or the reason why that is impossible."""
        if not isinstance(source, At):
            return await self._put_down(job, source, path) or path

        async def write() -> NotFetched | None:
            data = await fetch(source.address, most_bytes=self._most_bytes, allowed=self._allowed)
            if picture_type(data) is None:
                return NoPicture("The file is no picture.")
            await job.when_there_is_room(lambda: asyncio.to_thread(write_whole, path, data))
            return None

        return await self._several_tries(write, "picture_not_fetched") or path


def _name_of(source: Source) -> str:
    """As its server calls it; empty for one that came in the answer."""
    return PurePosixPath(urlsplit(source.address).path).name if isinstance(source, At) else ""


def _kind_of(path: Path) -> str:
    """The output that a file is by its bytes: images, videos, audio, or files for whatever else."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if picture_type(head) is not None:
        return "images"
    kind = file_kind(head)
    return "files" if kind is None else kind.kind
