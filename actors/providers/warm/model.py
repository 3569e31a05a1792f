"""The interface of a model: a class that is loaded once in a child process and makes one job after another.

    class Poster:
        def __init__(self, name, settings): ...      # a provider's name, and `ModelSettings`; does nothing expensive
        def load(self): ...                          # once in each child, within `load_seconds`
        def make(self, job, progress): ...           # returns Done, or raises a ProviderError
        def close(self): ...                         # before its child ends by itself; not called when it is killed

All of it is synchronous and runs in the child's main thread. Printed text is logged with the task's id. The arguments
are plain values that can be pickled and written as JSON; the result is `Done`, with files in `job.folder`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from actors.providers.base import Done

Progress = Callable[[int, str], None]  # (percent 0 … 99, stage)


@dataclass(frozen=True)
class ModelSettings:
    """The settings of its provider. secrets: in the clear."""

    options: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    model: str = ""
    url: str = ""


@dataclass(frozen=True)
class ModelJob:
    """One attempt's order, as `actors.providers.base.Job` has it, in plain values.

    folder: exists, belongs to this attempt alone, and is removed with it. pictures: which n of 0 … count−1 to make.
    """

    task_id: str
    type: str
    params: Mapping[str, Any]
    inputs: tuple[Path, ...]
    pictures: tuple[int, ...]
    count: int
    seed: int
    folder: Path
    ai_timeout_seconds: float


class Model(Protocol):
    """A model: the docstring of this module describes its methods."""

    def __init__(self, name: str, settings: ModelSettings) -> None: ...

    def load(self) -> None:
        """Read the weights; an error postpones the waiting tasks at no cost."""

    def make(self, job: ModelJob, progress: Progress) -> Done:
        """Make the ordered results. Raises ProviderError; any other error costs the task an attempt and is logged."""

    def close(self) -> None:
        """Free the resources that the operating system does not free by itself."""


def is_model(found: type) -> bool:
    """Whether a class is a model, and not an adapter of a service."""
    return callable(getattr(found, "make", None)) and not hasattr(found, "submit")
