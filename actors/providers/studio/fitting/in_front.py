"""What stays in front of a garment: head, hair, neck and hands.

Skin is what has the colour of this person's own face.  Hair below the chin is what has the colour of the hair above
the brow, less that of the clothes: where the two colours are equal, they can't be separated, and the garment covers the
hair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.providers.studio.fitting.body import Torso
from actors.providers.studio.vision.planes import Plane, blur, resized, smoothstep, to_segment
from actors.providers.studio.vision.pose import (
    LEFT_EAR,
    LEFT_INDEX,
    LEFT_WRIST,
    MOUTH_LEFT,
    MOUTH_RIGHT,
    NOSE,
    RIGHT_EAR,
    RIGHT_INDEX,
    RIGHT_WRIST,
    Pose,
)
from actors.providers.studio.vision.regions import reached

SMALL = 160  # the long side on which connected hair is looked for
HAND = 14.0  # how unlike the face a hand may be: other light falls on it
LEAST_HAND = 0.12  # of a hand's place that has the face's colour, or the hand is hidden


def in_front_of(colours: Plane, alpha: Plane, pose: Pose, torso: Torso) -> InFront:
    """What must stay, and what are the old clothes.  colours: (h, w, 3) of the photo.  alpha: (h, w), the person."""
    height, width = alpha.shape
    # colours are compared on a copy: single pixels say little
    scale = min(1.0, 420 / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    view = _View(resized(colours, *small), resized(alpha, *small), pose.points * scale, torso, scale)
    kept = view.head() | view.neck() | view.hair()
    for wrist, index in ((LEFT_WRIST, LEFT_INDEX), (RIGHT_WRIST, RIGHT_INDEX)):
        if pose.seen[wrist] > 0.5:
            kept |= view.hand(wrist, index)
    soft = smoothstep(0.3, 0.7, blur(kept.astype(np.float32), max(small) / 300))
    return InFront(resized(soft, width, height), resized(view.like_the_clothes(), width, height))


@dataclass(frozen=True)
class InFront:
    """kept: 1 where the person must stay as they are, (h, w).  clothes: 1 where the colour is that of the old
    clothes, (h, w)."""

    kept: Plane
    clothes: Plane


class _View:
    """The photo as it is looked at.  points: (33, 2), the pose, in its pixels."""

    def __init__(self, colours: Plane, alpha: Plane, points: Plane, torso: Torso, scale: float) -> None:
        self.colours, self.alpha, self.points, self.up = colours, alpha, points, torso.up
        self.reach = torso.width * scale
        self.x = np.arange(alpha.shape[1], dtype=np.float32)[None, :]
        self.y = np.arange(alpha.shape[0], dtype=np.float32)[:, None]
        self.nose = points[NOSE]
        self.mouth = (points[MOUTH_LEFT] + points[MOUTH_RIGHT]) / 2
        self.face = max(
            float(np.linalg.norm(points[LEFT_EAR] - points[RIGHT_EAR])),
            1.9 * float(np.linalg.norm(self.mouth - self.nose)),
            0.22 * self.reach,
        )
        self.chin = self.mouth - self.up * self.face * 0.42
        self.unlike_the_face = self._distance(self._near(self.nose, 0.30 * self.face) & (self.alpha > 0.7))
        self.skin = self.unlike_the_face < 7.0
        self.unlike_the_clothes = self._distance(self._chest() & ~self.skin)

    def head(self) -> NDArray[np.bool_]:
        kept: NDArray[np.bool_] = self._above(self.chin) & self._near(self.nose, 1.5 * self.face)
        return kept

    def neck(self) -> NDArray[np.bool_]:
        """As far as it hangs together with the face, or a tie would be one."""
        way = to_segment(self.x, self.y, self.nose, self.chin - self.up * self.face * 0.35) < 0.5 * self.face
        return self._hanging_together(self._near(self.nose, 0.3 * self.face), self.skin & way)

    def hand(self, wrist: int, index: int) -> NDArray[np.bool_]:
        """From the wrist to the fingertips, where it has the face's colour."""
        start, end = self.points[wrist], self.points[index]
        way = to_segment(self.x, self.y, start + (end - start) * 0.2, start + (end - start) * 1.9)
        place = (way < 0.2 * self.reach) & (self.alpha > 0.3)
        skin = (self.unlike_the_face < np.minimum(self.unlike_the_clothes, HAND)) & place
        shown: NDArray[np.bool_] = place & (blur(skin.astype(np.float32), 1.2) > 0.45)
        return shown if shown.sum() > LEAST_HAND * place.sum() else np.zeros_like(shown)

    def hair(self) -> NDArray[np.bool_]:
        """Hair that falls below the chin and hangs together with the head's."""
        crown = self.nose + self.up * self.face * 0.95
        around = self._near(self.chin, 1.9 * self.face) & (self.alpha > 0.5)
        hair = self._near(crown, 0.45 * self.face) & (self.alpha > 0.7) & ~self.skin
        unlike = self._distance(hair)
        alike = (blur(self.unlike_the_clothes - unlike, 1.5) > 3.0) & (unlike < 9.0) & ~self.skin
        return self._hanging_together(hair, alike & around) & around

    def like_the_clothes(self) -> Plane:
        """1 where the colour is that of the chest, skin apart, 0 where it is another."""
        return smoothstep(14.0, 8.0, blur(self.unlike_the_clothes, 1.0))

    def _chest(self) -> NDArray[np.bool_]:
        middle = self.points[[11, 12]].mean(0) - self.up * self.reach * 0.45
        return self._near(middle, 0.45 * self.reach) & (self.alpha > 0.7)

    def _hanging_together(self, seed: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The part of a mask that can be reached from the seed.  Seen small, as a walk takes a round for each step."""
        step = max(1, round(max(self.alpha.shape) / SMALL))
        found = reached(seed[::step, ::step], (mask | seed)[::step, ::step])
        spread = np.repeat(np.repeat(found, step, 0), step, 1)[: mask.shape[0], : mask.shape[1]]
        kept: NDArray[np.bool_] = spread & mask
        return kept

    def _near(self, place: Plane, radius: float) -> NDArray[np.bool_]:
        near: NDArray[np.bool_] = (self.x - place[0]) ** 2 + (self.y - place[1]) ** 2 < radius**2
        return near

    def _above(self, place: Plane) -> NDArray[np.bool_]:
        above: NDArray[np.bool_] = (self.x - place[0]) * self.up[0] + (self.y - place[1]) * self.up[1] > 0
        return above

    def _distance(self, sample: NDArray[np.bool_]) -> Plane:
        """How unlike the colours of a sample each pixel is: squared, in units of the sample's own spread.
        Lightness counts less than hue, as light falls from one side."""
        y = self.colours @ np.array([0.299, 0.587, 0.114], np.float32)
        seen = np.stack([y * 0.5, self.colours[..., 2] - y, self.colours[..., 0] - y], -1)
        if sample.sum() < 12:
            return np.full(y.shape, 1e3, np.float32)
        middle = np.median(seen[sample], 0)
        spread = np.median(abs(seen[sample] - middle), 0) * 1.5 + np.array([0.05, 0.02, 0.02])
        apart: Plane = (((seen - middle) / spread) ** 2).sum(-1)
        return apart
