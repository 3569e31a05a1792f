"""Where the camera stands: which part of the photo a picture shows.

Only ever closer than the photo, never wider: a body cut off by the photo's edge must stay cut off by the
picture's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actors.providers.studio.planes import Plane

# (width ÷ height, or None for the photo's own; how much closer).  Neighbours differ at a glance.
FRAMES: tuple[tuple[float | None, float], ...] = (
    (None, 1.0), (4 / 5, 1.06), (1.0, 1.22), (None, 1.12), (3 / 4, 1.18), (1.0, 1.04), (4 / 5, 1.3), (2 / 3, 1.0),
)  # fmt: skip


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


def frame_for(n: int, alpha: Plane) -> Frame:
    """The frame of picture n, around the head and as much of the body as fits."""
    height, width = alpha.shape
    aspect, closer = FRAMES[n % len(FRAMES)]
    frame_width, frame_height = _largest(width, height, aspect or width / height)
    frame_width, frame_height = round(frame_width / closer), round(frame_height / closer)
    head_x, head_top = _head(alpha)
    left = min(max(0, round(head_x - frame_width / 2)), width - frame_width)
    top = min(max(0, round(head_top - 0.12 * frame_height)), height - frame_height)
    return Frame(left, top, frame_width, frame_height)


def _largest(width: int, height: int, aspect: float) -> tuple[float, float]:
    return (width, width / aspect) if width / height < aspect else (height * aspect, height)


def _head(alpha: Plane) -> tuple[float, int]:
    """(x of the head's middle, y of its top): the head is the upper fifth of what is person."""
    rows = np.flatnonzero((alpha > 0.5).mean(1) > 0.01)
    top, bottom = int(rows[0]), int(rows[-1])
    columns = np.flatnonzero((alpha[top : top + max(1, (bottom - top) // 5)] > 0.5).any(0))
    return float(columns.mean()), top
