"""The workers' program for pictures: `python -m actors.images.child_program`, a child as
`supervisor.pictures.child_program` describes it, that can also carry out the studio's orders:

    → {"id", "task": one of the studio's, "person", "garment"?, "scene", "count", "seed", "out",
       "pictures"?, "size"?}

Pictures are written to the folder `out` under their final names only when they are whole, and then their thumbnails.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from actors.providers.studio.orders.faults import StudioFault
from actors.providers.studio.orders.order import TASKS, Order, read_order
from supervisor.pictures import child_program
from supervisor.pictures.child_program import Parent, WorkFault, limit_memory

if TYPE_CHECKING:
    from actors.providers.studio.orders.delivery import Delivered

STUDIO_BYTES = (
    2 * 1024**3
)  # of addresses; the largest order, two photos of 40 megapixels with alpha, took 790 MiB

Progress = Callable[[int, str], None]


def main() -> None:
    """Serve requests until stdin ends."""
    child_program.main(dict.fromkeys(TASKS, _studio_order))


def _studio_order(request: dict[str, Any], parent: Parent) -> list[dict[str, Any]]:
    limit_memory(STUDIO_BYTES)
    try:
        return carry_out(read_order(request), _rising(functools.partial(_tell, parent)))
    except StudioFault as fault:
        raise WorkFault(str(fault), fault.code) from fault


def _tell(parent: Parent, percent: int, stage: str) -> None:
    parent.say(progress=percent, stage=stage)


def carry_out(order: Order, progress: Progress) -> list[dict[str, Any]]:
    """Make the order's pictures; with cards in their place when the `studio` extra is not installed."""
    made = [
        {
            "n": picture.n,
            "path": str(picture.path),
            "width": picture.width,
            "height": picture.height,
            "thumbnail": picture.thumbnail,
        }
        for picture in _studio()(order, progress)
    ]
    return made


def _studio() -> Callable[[Order, Progress], Iterator[Delivered]]:
    try:
        import ai_edge_litert.interpreter  # noqa: F401
        import numpy  # noqa: F401
    except ImportError:
        from actors.providers.studio.fallback import make_cards

        return make_cards
    from actors.providers.studio.pictures import make_pictures

    return make_pictures


def _rising(tell: Progress) -> Progress:
    """A progress function whose values never fall, never reach 100, and never repeat."""
    last: tuple[int, str] = (-1, "")

    def progress(percent: int, stage: str) -> None:
        nonlocal last
        now = (min(99, max(percent, last[0])), stage)
        if now != last:
            last = now
            tell(*now)

    return progress


if __name__ == "__main__":
    main()
