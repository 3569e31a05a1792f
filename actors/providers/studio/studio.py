"""The studio as a model in a child process (`actors.providers.warm.model`): loaded once, one order after another.

The child knows no secret, is niced, and works on one thread: several of them run side by side on a host that serves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from actors.providers.base import Done, InvalidInput, MadeImage, MadeThumbnail
from actors.providers.studio.orders.faults import StudioFault
from actors.providers.studio.orders.order import MOST_PEOPLE, TASKS, Order, read_order
from actors.providers.warm.model import ModelJob, ModelSettings, Progress
from supervisor.pictures.child_program import NICENESS, limit_memory

if TYPE_CHECKING:
    from actors.providers.studio.orders.delivery import Delivered

# Of addresses; the dearest order, two photos of 40 megapixels with alpha, took 790 MiB.
STUDIO_BYTES = 2 * 1024**3

Maker = Callable[[Order, Progress], "Iterator[Delivered]"]


class Studio:
    """Photography and fitting; the models of each are read with its first order."""

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
    """What makes pictures; cards in their place when the `studio` extra is not installed."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
        import numpy  # noqa: F401
    except ImportError:
        from actors.providers.studio.fallback import make_cards

        return make_cards
    from actors.providers.studio.pictures import make_pictures

    return make_pictures


def request_for(job: ModelJob) -> dict[str, Any]:
    """What `read_order` reads.  Raises InvalidInput when a picture is missing."""
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


def _wearer(job: ModelJob) -> int | None:
    """Who of a group wears the garment, counted from the left, from 1; None for the largest.  Raises InvalidInput."""
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


def made_of(picture: Delivered) -> MadeImage:
    """A picture as `Done` has it."""
    small = picture.thumbnail
    thumbnail = None if small is None else MadeThumbnail(small["path"], small["width"], small["height"])
    return MadeImage(picture.n, picture.path, picture.width, picture.height, thumbnail)
