"""The studio as a model in a child process (`actors.providers.warm.model`): loaded once, one order after another.

The child knows no secret, is niced, and works on one thread: several of them run side by side on a host that serves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from actors.providers.base import Done, InvalidInput, MadeImage, MadeThumbnail
from actors.providers.studio.orders.faults import StudioFault
from actors.providers.studio.orders.order import MOST_PEOPLE, OF_EACH_INPUT, TASKS, Order, read_order
from actors.providers.warm.model import ModelJob, ModelSettings, Progress
from supervisor.pictures.child_program import NICENESS, limit_memory

if TYPE_CHECKING:
    from actors.providers.studio.orders.delivery import Delivered

# Of addresses; the dearest order, two photos of 40 megapixels with alpha, took 790 MiB.
STUDIO_BYTES = 2 * 1024**3

Maker = Callable[[Order, Progress], "Iterator[Delivered]"]


class Studio:
    """Photography, fitting, cut-outs and enlargements; the models of each are read with its first order."""

    def __init__(self, name: str, settings: ModelSettings) -> None:
        self._make: Maker | None = None

    def load(self) -> None:
        """Import what makes the pictures."""
        os.nice(NICENESS)
        self._make = maker()

    def make(self, job: ModelJob, progress: Progress) -> Done:
        """The order's pictures.  Raises InvalidInput."""
        assert self._make is not None
        limit_memory(STUDIO_BYTES)
        try:
            return Done(tuple(made_of(each) for each in self._make(read_order(request_for(job)), progress)))
        except StudioFault as fault:
            raise InvalidInput(str(fault), code=fault.code) from fault
        except MemoryError as error:
            message = "The picture is too large to be worked on here."
            raise InvalidInput(message, code="image_unusable") from error

    def close(self) -> None:
        """Nothing that the system does not free."""


def maker() -> Maker:
    """What makes pictures; without the `studio` extra, what can be made with Pillow alone."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
        import numpy  # noqa: F401
    except ImportError:
        from actors.providers.studio.fallback import make_without_models

        return make_without_models
    from actors.providers.studio.pictures import make_pictures

    return make_pictures


def request_for(job: ModelJob) -> dict[str, Any]:
    """What `read_order` reads.  Raises InvalidInput when a picture is missing or a parameter is wrong."""
    given = job.params.get("parameters")
    parameters = given if isinstance(given, dict) else {}
    operation = _operation(job.type, parameters)
    wanted = TASKS[operation]
    if len(job.inputs) < wanted:
        raise InvalidInput(
            f"{operation} needs {wanted} picture{'s' if wanted > 1 else ''}.", code="bad_params"
        )
    request: dict[str, Any] = {
        "task": operation,
        "person": str(job.inputs[0]),
        "count": job.count,
        "seed": job.seed,
        "pictures": list(job.pictures),
        "out": str(job.folder),
    }
    if operation in OF_EACH_INPUT:
        return request | {"sources": [str(each) for each in job.inputs], "factor": parameters.get("factor")}
    request["scene"] = job.params.get("sceneId") or "studio"
    if wanted > 1:
        request |= {"garment": str(job.inputs[1]), "wearer": _wearer(parameters)}
    return request


def _operation(type_name: str, parameters: dict[str, Any]) -> str:
    """What the studio does for an order: `parameters.operation`, or what the type is named after.
    Raises InvalidInput."""
    asked = parameters.get("operation", type_name)
    if not isinstance(asked, str) or asked not in TASKS:
        raise InvalidInput(
            f"parameters.operation must be one of {', '.join(TASKS)}: what the studio makes.",
            code="bad_params",
        )
    return asked


def _wearer(parameters: dict[str, Any]) -> int | None:
    """Who of a group wears the garment, counted from the left, from 1; None for the largest.  Raises InvalidInput."""
    asked = parameters.get("person")
    if asked is None:
        return None
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= MOST_PEOPLE:
        raise InvalidInput(
            f"parameters.person must be a whole number from 1 to {MOST_PEOPLE}: who of a group wears the garment, "
            "counted from the left.",
            code="bad_params",
        )
    return asked


def made_of(picture: Delivered) -> MadeImage:
    """A picture as `Done` has it."""
    small = picture.thumbnail
    thumbnail = None if small is None else MadeThumbnail(small["path"], small["width"], small["height"])
    return MadeImage(picture.n, picture.path, picture.width, picture.height, thumbnail)
