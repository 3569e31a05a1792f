"""The messages between a worker and the child with its model: JSON, so that a message of a broken child can do no
harm."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.providers import base
from actors.providers.base import (
    Done,
    Job,
    Lost,
    MadeFile,
    MadeImage,
    MadeThumbnail,
    Postponed,
    ProviderError,
    Transient,
)
from actors.providers.warm.model import ModelJob

SPEAKS_FOR = "\0speaks for "


def request_for(job: Job) -> dict[str, Any]:
    """The request for this job; makes its folder."""
    return {
        "task": "make",
        "job": {
            "task_id": job.task_id,
            "type": job.type,
            "params": dict(job.params),
            "inputs": [str(path) for path in job.inputs],
            "pictures": list(job.pictures),
            "count": job.count,
            "seed": job.seed,
            "folder": str(job.folder),
            "ai_timeout_seconds": job.ai_timeout_seconds,
        },
    }


def job_in(request: Mapping[str, Any]) -> ModelJob:
    """The job as its model receives it."""
    told = request["job"]
    return ModelJob(
        **{
            **told,
            "inputs": tuple(Path(path) for path in told["inputs"]),
            "pictures": tuple(told["pictures"]),
            "folder": Path(told["folder"]),
        }
    )


def told_of(done: Done) -> dict[str, Any]:
    """`Done` as JSON. Raises TypeError for anything else."""
    if not isinstance(done, Done):
        raise TypeError(f"make() returned {type(done).__name__}, but must return Done.")
    told = dataclasses.asdict(done)
    for made in (*told["images"], *told["files"]):
        made["path"] = str(made["path"])
        if made.get("thumbnail"):
            made["thumbnail"]["path"] = str(made["thumbnail"]["path"])
    return told


def done_in(told: Mapping[str, Any]) -> Done:
    """`Done` again."""
    return Done(
        images=tuple(_image(each) for each in told["images"]),
        files=tuple(MadeFile(**{**each, "path": Path(each["path"])}) for each in told["files"]),
        data=told["data"],
        without_pictures=told["without_pictures"],
    )


def _image(told: Mapping[str, Any]) -> MadeImage:
    small = told["thumbnail"]
    thumbnail = None if small is None else MadeThumbnail(**{**small, "path": Path(small["path"])})
    return MadeImage(**{**told, "path": Path(told["path"]), "thumbnail": thumbnail})


def told_of_error(error: ProviderError) -> dict[str, Any]:
    """Its class and its text."""
    kind = next(each.__name__ for each in type(error).__mro__ if each.__module__ == base.__name__)
    told = {"kind": kind, "code": error.code, "message": error.message, "retryable": error.retryable}
    return told | ({"wait_seconds": error.wait_seconds} if isinstance(error, Postponed) else {})


def error_in(told: Mapping[str, Any]) -> ProviderError:
    """The error that the child's model raised; an error of an unknown class becomes `Transient`."""
    kind = getattr(base, str(told.get("kind", "")), None)
    if not (isinstance(kind, type) and issubclass(kind, ProviderError)):
        return Transient(told["message"], code=told["code"])
    if issubclass(kind, Postponed):
        return kind(told["message"], wait_seconds=_seconds(told.get("wait_seconds")))
    if issubclass(kind, Lost):
        return Transient(told["message"], code=told["code"])  # there is no remote job here that could be lost
    return kind(told["message"], code=told["code"], retryable=told.get("retryable"))


def _seconds(told: Any) -> float | None:
    """The wait; None for what is none."""
    return float(told) if isinstance(told, int | float) and 0 <= told < math.inf else None
