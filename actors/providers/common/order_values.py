"""The values of an order's placeholders: its params, and its pictures in the form that the service needs.

A picture that is sent as a link must be in the store.  A picture that the user gave by its address is copied there, and
deleted when the service no longer needs it (`take_away`).
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from actors.providers.base import InvalidInput, Job, Postponed
from actors.providers.common.picture_sources import data_uri
from actors.providers.common.plain_pictures import plain_input
from actors.providers.common.template import MISSING, InputPicture, Placeholder, param
from actors.providers.provider_context import ProviderContext
from supervisor.core.task_params import inputs_in
from supervisor.media.file_kinds import HEAD_BYTES, UNKNOWN, file_kind
from supervisor.objects.object_store import StoreAway
from supervisor.pictures.media_types import EXTENSIONS, picture_type
from supervisor.telemetry import tracing

MOST_SEED = 2**31  # services refuse larger ones

log = structlog.get_logger(__name__)


class OrderValues:
    """Fills in templates of one service.  secrets: {name: value}."""

    def __init__(self, context: ProviderContext, secrets: Mapping[str, str]) -> None:
        self._context = context
        self._secrets = secrets

    async def of_order(
        self, placeholders: Iterable[Placeholder], job: Job, put_down: list[str]
    ) -> dict[Placeholder, Any]:
        """A value for each; MISSING if the order has none.

        put_down: collects the keys of files that are made for the service to fetch.  Raises ProviderError.
        """
        values: dict[Placeholder, Any] = {}
        for placeholder in placeholders:
            if placeholder.input is None:
                values[placeholder] = self.plain(placeholder, job)
            else:
                n, form = placeholder.input
                known = n < len(job.inputs)
                values[placeholder] = await self._picture(job, n, form, put_down) if known else MISSING
        return values

    def plain(self, placeholder: Placeholder, job: Job) -> Any:
        """The value of a placeholder other than a picture."""
        if placeholder.secret is not None:
            return self._secrets[placeholder.secret]
        if placeholder.name.startswith("params."):
            return param({"prompt": "", "count": len(job.pictures)} | dict(job.params), placeholder)
        if placeholder.name == "callback_url":  # it is made when it is read
            return job.callback_url or MISSING
        return {
            "task_id": job.task_id,
            "reference": job.reference,
            "count": len(job.pictures),
            # Each request of an order has its own seed; otherwise a service would make the same picture again.
            "seed": (job.seed + min(job.pictures, default=0)) % MOST_SEED,
            "traceparent": tracing.traceparent() or MISSING,
        }.get(placeholder.name, MISSING)

    def of_remote_job(
        self, placeholder: Placeholder, remote_id: str, kept: Mapping[str, str], job: Job | None
    ) -> Any:
        """The value of a placeholder in a poll or cancel.  job: None for a cancel."""
        if placeholder.name == "id":
            return remote_id
        if placeholder.kept is not None:
            return kept.get(placeholder.kept, "")
        if placeholder.secret is not None:
            return self._secrets[placeholder.secret]
        return MISSING if job is None else self.plain(placeholder, job)

    async def file(self, job: Job, n: int) -> InputPicture:
        """Input n as a file.  Raises InvalidInput, Transient."""
        named = inputs_in(job.params)
        if n < len(named) and named[n][0] != "images":
            data = await asyncio.to_thread(job.inputs[n].read_bytes)
            picture = picture_type(data)
            if picture is not None:  # a list of files takes any
                return InputPicture(data, picture, f"input-{n}.{EXTENSIONS[picture]}")
            kind = file_kind(data[:HEAD_BYTES], whole=len(data) <= HEAD_BYTES)
            extension = kind.extension if kind is not None else "bin"
            return InputPicture(
                data, kind.media_type if kind is not None else UNKNOWN, f"input-{n}.{extension}"
            )
        path = await plain_input(self._context, job, n)
        data = await asyncio.to_thread(path.read_bytes)
        type_ = picture_type(data)
        if type_ is None:
            raise InvalidInput(f"Picture {n + 1} can't be read.", code="image_unusable")
        return InputPicture(data, type_, f"input-{n}.{EXTENSIONS[type_]}")

    async def take_away(self, put_down: Iterable[str]) -> None:
        """Delete these files, because the service no longer needs them."""
        for key in put_down:
            await asyncio.shield(self._take_away(key))

    async def _take_away(self, key: str) -> None:
        """Its error is logged here, because after a cancel there is no caller."""
        try:
            await asyncio.to_thread(self._context.files.delete, key)
        except (StoreAway, OSError) as error:  # only garbage, and no reason to lose a picture
            log.warning("input_left_behind", key=key, reason=str(error))

    async def _picture(self, job: Job, n: int, form: str, put_down: list[str]) -> Any:
        key = job.input_keys[n]
        if form == "url" and key is not None:
            return self._context.address_of(key)
        picture = await self.file(job, n)
        if form == "bytes":
            return picture
        if form == "data_uri":
            return await asyncio.to_thread(data_uri, picture.type, picture.data)
        key = f"inputs/{job.reference.replace('.', '-') or job.task_id}/{picture.name}"
        put_down.append(key)
        try:
            await job.when_there_is_room(
                lambda: asyncio.to_thread(self._context.files.put, key, io.BytesIO(picture.data))
            )
        except (StoreAway, OSError):  # our own fault, so no attempt is counted
            raise Postponed("The file store is away, and the AI service could not fetch from it.") from None
        return self._context.address_of(key)
