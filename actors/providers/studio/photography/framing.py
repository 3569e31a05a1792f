"""Where the camera stands: which part of the photo a picture shows.

Only ever closer than the photo, never wider: a body cut off by the photo's edge must stay cut off by the
picture's.  A group stays together: no frame cuts off a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.providers.studio.vision.crops import Box, around
from actors.providers.studio.vision.planes import Plane

# (width ÷ height, or None for the photo's own; how much closer).  Neighbours differ at a glance.
FRAMES: tuple[tuple[float | None, float], ...] = (
    (None, 1.0), (4 / 5, 1.06), (1.0, 1.22), (None, 1.12), (3 / 4, 1.18), (1.0, 1.04), (4 / 5, 1.3), (2 / 3, 1.0),
)  # fmt: skip

AIR = 1.06  # of what must be in a frame


@dataclass(frozen=True)
class Frame:
    """A rectangle of the photo, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def scaled_to(self, long_side: int) -> tuple[int, int]:
        """Width and height of a picture of this frame."""
        scale = long_side / max(self.width, self.height)
        return round(self.width * scale), round(self.height * scale)

    def of(self, a: Plane) -> Plane:
        return a[self.top : self.top + self.height, self.left : self.left + self.width]


def frame_for(n: int, alpha: Plane, hold: Box | None = None) -> Frame:
    """The frame of picture n, around the head and as much of the body as fits.
    hold: what must be in the frame, in the middle if it can be; its shape and nearness give way to that."""
    height, width = alpha.shape
    aspect, closer = FRAMES[n % len(FRAMES)]
    frame_width, frame_height = _largest(width, height, aspect or width / height)
    frame_width, frame_height = round(frame_width / closer), round(frame_height / closer)
    if hold is not None:
        frame_width = min(width, max(frame_width, round(AIR * (hold[2] - hold[0]))))
        frame_height = min(height, max(frame_height, round(AIR * (hold[3] - hold[1]))))
    head_x, head_top = _head(alpha) if hold is None else ((hold[0] + hold[2]) / 2, hold[1])
    left = min(max(0, round(head_x - frame_width / 2)), width - frame_width)
    top = min(max(0, round(head_top - 0.12 * frame_height)), height - frame_height)
    if hold is not None:  # the rows above it give way to those below
        top = max(top, min(hold[3], height) - frame_height)
    return Frame(left, top, frame_width, frame_height)


def group_box(alpha: Plane, heads: Sequence[Box]) -> Box:
    """The parts of a group that a frame must hold: each person's head and shoulders, and all person pixels beside them.
    heads: the boxes around head and shoulders."""
    across = np.flatnonzero((alpha > 0.5).mean(0) > 0.01)
    box = around(heads)
    if not across.size:
        return box
    return min(box[0], int(across[0])), box[1], max(box[2], int(across[-1]) + 1), box[3]


def _largest(width: int, height: int, aspect: float) -> tuple[float, float]:
    return (width, width / aspect) if width / height < aspect else (height * aspect, height)


def _head(alpha: Plane) -> tuple[float, int]:
    """(x of the head's middle, y of its top): the head is the upper fifth of what is person."""
    rows = np.flatnonzero((alpha > 0.5).mean(1) > 0.01)
    top, bottom = int(rows[0]), int(rows[-1])
    columns = np.flatnonzero((alpha[top : top + max(1, (bottom - top) // 5)] > 0.5).any(0))
    return float(columns.mean()), top
