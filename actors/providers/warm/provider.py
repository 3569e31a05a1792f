"""The adapter between jobs and a model in its children."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    Job,
    Lost,
    Progress,
    ProviderDown,
    Running,
    Transient,
)
from actors.providers.warm.messages import done_in, error_in, request_for
from actors.providers.warm.processes import DiedWhileIdle, NotLoaded, WarmProcesses
from supervisor.pictures.child_process import PACKAGE_ROOT, ImageProcessDied, ImageWorkFailed

AGAIN_SECONDS = 30.0  # from a failed load to the next try
TRIES = 3  # with children that had died while they were idle
# Variables that are ours alone and no settings.
_NOT_THEIRS = (
    "SUPERVISED_BY_UP",
    "WORKER_SPAWN_ULID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "SUPERVISOR_BEAT_FILE",
)


class ModelNotLoaded(ProviderDown):
    """Its tasks wait at no cost, or go to the fallback; `/ops` reports it like wrong settings."""

    waits_for = "wrong_settings"
    usual_wait_seconds = AGAIN_SECONDS


def environment_for(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a custom model: ours without our settings, which hold secrets; and its `env`."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DARKROOM_") and name not in _NOT_THEIRS
    }
    # Children can import all modules that the worker can; an empty entry is the folder in which it was started.
    paths = dict.fromkeys([str(PACKAGE_ROOT), *(path or os.getcwd() for path in sys.path)])
    return ours | {"PYTHONPATH": os.pathsep.join(paths)} | dict(env)


class WarmProvider:
    """See the module.  processes: this provider's own, closed with it."""

    may_bill_twice = True  # it costs only our own time
    keeps_ai_timeout = True  # of a job; it counts from when a loaded child takes it

    def __init__(self, processes: WarmProcesses) -> None:
        self.processes = processes

    async def submit(self, job: Job, progress: Progress) -> Done:
        """The model's result. A cancel kills the process that makes it. Raises ProviderError."""
        for _ in range(TRIES):
            try:
                return await self._submit(job, progress)
            except DiedWhileIdle:
                continue
        raise Transient("The processes of the model keep dying before they begin.", code="worker_died")

    async def _submit(self, job: Job, progress: Progress) -> Done:
        try:
            request = await asyncio.to_thread(request_for, job)  # it makes the job's folder
            (made,) = await job.when_there_is_room(
                lambda: self.processes.run(
                    request, progress, job.ai_timeout_seconds, own_child=job.own_process
                )
            )
            return done_in(made)
        except NotLoaded as failure:
            raise ModelNotLoaded(f"The model can't be loaded: {failure}") from failure
        except ImageWorkFailed as failure:
            raise error_in(failure.told) from failure
        except DiedWhileIdle:
            raise
        except ImageProcessDied as death:
            raise Transient(f"The process of the model died: {death}", code="worker_died") from death
        except TimeoutError as error:
            raise Transient(
                f"The model did not finish within {job.ai_timeout_seconds:g} s.", code="ai_timeout"
            ) from error

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        return Failed(Lost("A model in a process of ours has no remote jobs."))

    async def cancel(self, remote: Accepted) -> bool:
        return True

    async def close(self) -> None:
        """End the children."""
        await self.processes.close()
