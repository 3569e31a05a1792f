"""An upload made plain by an image child, never in this process, which holds secrets and can't kill a thread.

Users take turns with their pictures; one user never has all the children.  The child limits the cost of a picture by
its pixels (`supervisor.pictures.child_program`); if the host is too busy, the answer says so.
"""

from __future__ import annotations

import logging
from typing import BinaryIO

from config.settings import Settings
from supervisor.objects.object_store import StoreAway
from supervisor.pictures.child_process import ImageProcessDied, ImageWorkFailed
from supervisor.pictures.picture_errors import NotAPicture, Picture, PictureFault
from supervisor.pictures.process_pool import ImageProcesses
from web.http.problems import Problem, unavailable

log = logging.getLogger("darkroom.web")

CHILDREN = 2  # each takes a core while it decodes, and up to 17 bytes a pixel
# of wall time in a child: far more than the limit of CPU time on a host that is not overloaded
SECONDS = 120.0
WAIT_SECONDS = 60.0  # in line
ROOM_BESIDE_THE_LARGEST = 0.3  # ordinary pictures need not wait for one of the largest


class PlainUploads:
    """The children of one web process; the first is started when the first upload comes."""

    def __init__(self, settings: Settings) -> None:
        self._most_pixels = settings.limits.image_pixels
        self._processes = ImageProcesses(
            CHILDREN,
            most_each=CHILDREN - 1,
            most_pixels=int(self._most_pixels * (1 + ROOM_BESIDE_THE_LARGEST)),
            stays_warm=True,
        )

    async def make_plain(self, user: str, source: BinaryIO, target: BinaryIO) -> Picture:
        """Write the picture of the source into the target.

        Both are open files with descriptors.  Raises a PictureFault, or a Problem: 503 if no turn comes in time.
        """
        request = {"task": "upload", "most_pixels": self._most_pixels}
        try:
            [made] = await self._processes.run(
                request, _silent, SECONDS, whose=user, wait_seconds=WAIT_SECONDS, files=(source, target)
            )
        except ImageWorkFailed as failure:
            raise _fault_of(failure) from None
        except ImageProcessDied as death:
            log.warning("an image process ended under an upload of %s: signal %d", user, death.signal)
            if death.by_its_own_doing:
                raise PictureFault(
                    "The picture costs too much to decode; save it anew and send that."
                ) from None
            raise _too_busy() from None
        except TimeoutError:
            raise _too_busy() from None
        return Picture(**made)

    async def close(self) -> None:
        """Kill the children."""
        await self._processes.close()


def _fault_of(failure: ImageWorkFailed) -> Exception:
    match failure.code:
        case "not_a_picture":
            return NotAPicture(failure.message)
        case "image_unusable":
            return PictureFault(failure.message)
        case "no_room":
            return StoreAway(failure.message)
    return RuntimeError(failure.message)


def _too_busy() -> Problem:
    return unavailable(
        "Too many pictures wait to be decoded; send this one again in a moment.",
        retry_after_seconds=10,
        kind="pictures_waiting",
    )


def _silent(percent: int, stage: str) -> None:
    """There is no progress worth showing."""
