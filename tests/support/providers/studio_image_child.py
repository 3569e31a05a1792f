"""An image child that carries out the studio's orders too: work of any length for tests of the pool of children."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from actors.providers.studio.orders.faults import StudioFault
from actors.providers.studio.orders.order import TASKS, read_order
from actors.providers.studio.studio import STUDIO_BYTES, maker
from actors.providers.warm.child_program import Rising
from supervisor.pictures import child_program
from supervisor.pictures.child_program import Parent, WorkFault, limit_memory
from supervisor.pictures.process_pool import ImageProcesses

PROGRAM = "tests.support.providers.studio_image_child"


def open_image_processes(size: int) -> ImageProcesses:
    """A pool of so many at most; nothing is started yet."""
    return ImageProcesses(size, PROGRAM)


def studio_order(request: dict[str, Any], parent: Parent) -> list[dict[str, Any]]:
    """The pictures of an order, as the child tells of them."""
    limit_memory(STUDIO_BYTES)
    try:
        return carry_out(request, Rising(parent))
    except StudioFault as fault:
        raise WorkFault(str(fault), fault.code) from fault


def carry_out(request: Mapping[str, Any], progress: Callable[[int, str], None]) -> list[dict[str, Any]]:
    """The same without a child."""
    made = maker()(read_order(request), progress)
    return [{**dataclasses.asdict(each), "path": str(each.path)} for each in made]


def main() -> None:
    """Serve requests until stdin ends."""
    child_program.main(dict.fromkeys(TASKS, studio_order))


if __name__ == "__main__":
    main()
