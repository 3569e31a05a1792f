"""The studio's adapter: a model like any other, whose input pictures are all made plain, as uploads are."""

from __future__ import annotations

import dataclasses
import os

from actors.providers.base import Done, Job, Progress
from actors.providers.common.plain_pictures import plain_input
from actors.providers.warm.model import ModelSettings
from actors.providers.warm.processes import Loading, WarmProcesses
from actors.providers.warm.provider import WarmProvider
from supervisor.pictures.child_process import child_environment
from supervisor.pictures.child_program import ONE_THREAD
from supervisor.pictures.process_pool import ImageProcesses

LOADING = Loading("actors.providers.studio.studio:Studio", "studio", ModelSettings(), seconds=120.0)


class StudioProvider(WarmProvider):
    """The embedded service.  images: the children that decode pictures, closed by their maker.  size: how many
    orders run at once.  most_pixels: the limit for a picture that was given by its address, 0 = no limit."""

    def __init__(self, images: ImageProcesses, *, size: int = 1, most_pixels: int = 0) -> None:
        super().__init__(WarmProcesses(size, LOADING, environment_of_studio()))
        self.images, self.most_pixels = images, most_pixels

    async def submit(self, job: Job, progress: Progress) -> Done:
        """Make the job's pictures.  A cancel kills the process that makes them.  Raises ProviderError."""
        return await super().submit(await self._with_plain_inputs(job), progress)

    async def _with_plain_inputs(self, job: Job) -> Job:
        """The job, with pictures from addresses made like uploads: from any format, upright."""
        inputs = list(job.inputs)
        for n, key in enumerate(job.input_keys[: len(inputs)]):
            if key is None:
                inputs[n] = await plain_input(self, job, n)
        return dataclasses.replace(job, inputs=tuple(inputs))


def environment_of_studio() -> dict[str, str]:
    """The variables of the studio's process: no secrets, because it reads strangers' pictures, and one thread for each
    library."""
    modest = dict.fromkeys(ONE_THREAD, "1") | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    return child_environment(os.environ) | modest
