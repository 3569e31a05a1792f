"""The image children of a worker: they can carry out the studio's orders too."""

from __future__ import annotations

from supervisor.pictures.process_pool import ImageProcesses

PROGRAM = "actors.images.child_program"


def open_image_processes(size: int) -> ImageProcesses:
    """A pool of at most so many children; none is started yet."""
    return ImageProcesses(size, PROGRAM)
