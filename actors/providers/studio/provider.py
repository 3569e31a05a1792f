"""The adapter between jobs and the image processes."""

from __future__ import annotations

import dataclasses
from typing import Any

from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    InvalidInput,
    Job,
    Lost,
    Progress,
    ProviderError,
    Running,
    Transient,
)
from actors.providers.common.plain_pictures import made_image, plain_input
from actors.providers.studio.orders.order import MOST_PEOPLE, TASKS
from supervisor.pictures.child_process import ImageProcessDied, ImageWorkFailed
from supervisor.pictures.process_pool import ImageProcesses

FAULTS_OF_THE_ORDER = {"bad_params", "image_unusable", "no_person_found", "invalid_input"}


class StudioProvider:
    """The embedded service.  images: shared by all its jobs in this worker, and closed by their maker.

    most_pixels: of one picture that was given by its address, 0 = no limit."""

    may_bill_twice = True  # it costs only our own time

    def __init__(self, images: ImageProcesses, *, most_pixels: int = 0) -> None:
        self.images, self.most_pixels = images, most_pixels

    async def submit(self, job: Job, progress: Progress) -> Done:
        """Make the job's pictures.  A cancel kills the process that makes them.  Raises InvalidInput,
        Transient."""
        try:
            request = request_for(await self._with_plain_inputs(job))
            images = await job.when_there_is_room(
                lambda: self.images.run(request, progress, job.ai_timeout_seconds, own_child=job.own_process)
            )
        except ImageWorkFailed as failure:
            raise error_for(failure) from failure
        except ImageProcessDied as death:
            raise Transient("The process that made the pictures died.", code="worker_died") from death
        except TimeoutError as error:
            raise Transient(
                f"The pictures were not made within {job.ai_timeout_seconds:g} s.", code="ai_timeout"
            ) from error
        return Done(tuple(made_image(image) for image in images))

    async def _with_plain_inputs(self, job: Job) -> Job:
        """The job, with pictures from addresses made like uploads: from any format, upright."""
        inputs = list(job.inputs)
        for n, key in enumerate(job.input_keys[: len(inputs)]):
            if key is None:
                inputs[n] = await plain_input(self, job, n)
        return dataclasses.replace(job, inputs=tuple(inputs))

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        return Failed(Lost("The studio has no remote jobs."))

    async def cancel(self, remote: Accepted) -> bool:
        return True

    async def close(self) -> None:
        """Nothing: the processes are shared."""


def request_for(job: Job) -> dict[str, Any]:
    """The image child's request.  Raises InvalidInput when a picture is missing."""
    wanted = TASKS.get(job.type, 1)
    if len(job.inputs) < wanted:
        raise InvalidInput(
            f"{job.type} needs {wanted} picture{'s' if wanted > 1 else ''}.", code="bad_params"
        )
    request: dict[str, Any] = {
        "task": job.type,
        "person": str(job.inputs[0]),
        "scene": job.params.get("sceneId") or "studio",
        "count": job.count,
        "seed": job.seed,
        "pictures": list(job.pictures),
        "out": str(job.folder),
    }
    if wanted > 1:
        request |= {"garment": str(job.inputs[1]), "wearer": _wearer(job)}
    return request


def _wearer(job: Job) -> int | None:
    """The person of a group who wears the garment, counted from the left, from 1; None for the largest.  Raises
    InvalidInput."""
    parameters = job.params.get("parameters")
    asked = parameters.get("person") if isinstance(parameters, dict) else None
    if asked is None:
        return None
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= MOST_PEOPLE:
        raise InvalidInput(
            f"parameters.person must be a whole number from 1 to {MOST_PEOPLE}: who of a group wears the garment, "
            "counted from the left.",
            code="bad_params",
        )
    return asked


def error_for(failure: ImageWorkFailed) -> ProviderError:
    if failure.code in FAULTS_OF_THE_ORDER:
        return InvalidInput(failure.message, code=failure.code)
    return Transient(failure.message, code=failure.code)
