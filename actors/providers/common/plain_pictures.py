"""Pictures from outside made plain by an image child: whole, upright, without metadata, encoded anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from actors.providers.base import InvalidInput, Job, MadeImage, MadeThumbnail, Transient
from supervisor.pictures.child_process import ImageProcessDied, ImageWorkFailed
from supervisor.pictures.process_pool import ImageProcesses

PLAIN_SECONDS = 60.0  # for an image child to make the pictures of one answer plain


class Decodes(Protocol):
    """images: the children that decode pictures.  most_pixels: of one, 0 = no limit."""

    @property
    def images(self) -> ImageProcesses: ...
    @property
    def most_pixels(self) -> int: ...


async def make_plain(
    context: Decodes,
    job: Job,
    files: list[dict[str, Any]],
    name: str = "",
    *,
    thumbnails: bool = False,
) -> list[dict[str, Any]]:
    """[{"n", "path", "width", "height", "thumbnail"}] for [{"n", "path"}], as `{name}{n}.…` in the job's folder.

    An unreadable picture among several is left out.  Raises ImageWorkFailed, ImageProcessDied, TimeoutError, NoRoom.
    """
    request = {
        "task": "plain",
        "files": files,
        "out": str(job.folder),
        "most_pixels": context.most_pixels,
        "name": name,
        "thumbnails": thumbnails,
    }
    return await job.when_there_is_room(
        lambda: context.images.run(request, _silent, PLAIN_SECONDS, own_child=job.own_process)
    )


async def plain_input(context: Decodes, job: Job, n: int) -> Path:
    """Input n like an upload: one that was given by its address is made plain first.

    Raises InvalidInput, Transient.
    """
    if job.input_keys[n] is not None:
        return job.inputs[n]
    for path in job.folder.glob(f"plain-{n}.*"):  # made before, in another form
        return path
    try:
        made = await make_plain(context, job, [{"n": n, "path": str(job.inputs[n])}], name="plain-")
    except ImageWorkFailed as failure:
        raise InvalidInput(failure.message, code="image_unusable") from None
    except (ImageProcessDied, TimeoutError):
        raise Transient(f"Picture {n + 1} could not be read.", code="worker_died") from None
    return Path(made[0]["path"])


def made_image(answer: Mapping[str, Any]) -> MadeImage:
    """A finished picture from an image child's answer."""
    small = answer["thumbnail"]
    thumbnail = None if small is None else MadeThumbnail(Path(small["path"]), small["width"], small["height"])
    return MadeImage(answer["n"], Path(answer["path"]), answer["width"], answer["height"], thumbnail)


def _silent(percent: int, stage: str) -> None:
    """A child that makes pictures plain has no progress worth showing."""
