"""The photos an attempt works on, as local files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from actors.files.scratch import Scratch, write_whole
from actors.providers.base import InvalidInput
from supervisor.core.task_params import inputs_in, is_url
from supervisor.media.file_kinds import HEAD_BYTES, file_kind
from supervisor.objects.object_store import copy_to
from supervisor.steps.step_orders import step_of_entry

if TYPE_CHECKING:
    from actors.worker.worker import Worker
    from supervisor.core.claim import Claim

log = structlog.get_logger(__name__)


class StepLost(InvalidInput):
    """A file that an earlier step of this task has made is gone.  step: the number of that step."""

    code = "internal"

    def __init__(self, name: str, step: int) -> None:
        super().__init__(
            f"A file that the step {name} had made is gone, so the task can't go on. A retry makes that step again."
        )
        self.step = step


async def fetch_inputs(worker: Worker, claim: Claim, scratch: Scratch) -> tuple[Path, ...]:
    """One file for each entry of `params.images`, `videos`, `audio` and `files`, in this order.

    Raises InvalidInput with `image_…` codes, and StepLost.
    """
    return tuple(
        [
            await _fetch(worker, claim, n, kind, entry, scratch)
            for n, (kind, entry) in enumerate(inputs_in(claim.params))
        ]
    )


def kind_of_file(path: Path) -> str | None:
    """videos, audio or files, by its bytes; None if such a file is not accepted."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    kind = file_kind(head)
    return None if kind is None else kind.kind


def input_keys(claim: Claim) -> tuple[str | None, ...]:
    """The file store's key of each; None for one that was given by its address."""
    return tuple(claim.image_keys.get(entry) for _, entry in inputs_in(claim.params))


async def _fetch(worker: Worker, claim: Claim, n: int, kind: str, entry: str, scratch: Scratch) -> Path:
    if is_url(entry) and kind != "images":
        from actors.net.fetch import fetch_public_file

        most = worker.settings.limits.bytes_by_kind[kind]
        target = scratch.folder / f"input-{n}"
        await scratch.when_there_is_room(
            lambda: fetch_public_file(
                target,
                entry,
                whose=claim.user,
                most_bytes=most,
                translation_prefixes=worker.settings.translation_prefixes,
            )
        )
        if kind != "files" and await asyncio.to_thread(kind_of_file, target) != kind:
            raise InvalidInput(f"What lies behind input {n + 1} is none of {kind}.", code="image_unusable")
        return target
    if is_url(entry):
        # Not at the top: it imports an HTTP client, which most processes never need.
        from actors.net.fetch import fetch_public_image

        settings = worker.settings
        data = await fetch_public_image(
            entry,
            whose=claim.user,
            most_bytes=settings.limits.image_bytes,
            translation_prefixes=settings.translation_prefixes,
        )
        target = scratch.folder / f"input-{n}"
        await scratch.when_there_is_room(lambda: asyncio.to_thread(write_whole, target, data))
        return target
    key = claim.image_keys.get(entry)
    if key is None:
        raise InvalidInput(f"There is no image {entry}.", code="image_not_found")
    try:
        path = worker.files.local_path(key)
        if path is not None:
            return path
        target = scratch.folder / f"input-{n}{Path(key).suffix}"
        await scratch.when_there_is_room(lambda: asyncio.to_thread(copy_to, worker.files, key, target))
        return target
    except FileNotFoundError:
        if (made_by := step_of_entry(entry)) is not None:
            names = [step["name"] for step in claim.fixed]
            log.error("step_result_lost", task=claim.task_id, step=made_by, key=key)
            raise StepLost(made_by, names.index(made_by)) from None
        raise InvalidInput(f"The file of image {entry} is gone.", code="image_not_found") from None
