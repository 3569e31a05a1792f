"""One person of a picture: their size, the places of head and torso, and whether a mask shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.providers.studio.vision.crops import Box, around, within
from actors.providers.studio.vision.planes import Plane, resized, smoothstep, to_segment
from actors.providers.studio.vision.pose import (
    LEFT_ELBOW,
    LEFT_HIP,
    LEFT_SHOULDER,
    LEFT_WRIST,
    MOUTH_RIGHT,
    RIGHT_ELBOW,
    RIGHT_HIP,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Pose,
)

SUBJECT = 0.5  # of the largest person's size; a smaller person only passes by
HEAD = 0.32  # half of a head's height, of the person's size
MARGIN = 0.4  # beyond the joints, of the person's size
LEAST_COVERED = 0.6  # of a head or a torso; a table or an arm may hide the rest
SMALL = 160  # the long side on which bones are told apart
BONES = ((LEFT_SHOULDER, RIGHT_SHOULDER), (LEFT_HIP, RIGHT_HIP), (LEFT_SHOULDER, LEFT_HIP), (RIGHT_SHOULDER, RIGHT_HIP),
         (LEFT_SHOULDER, LEFT_ELBOW), (LEFT_ELBOW, LEFT_WRIST), (RIGHT_SHOULDER, RIGHT_ELBOW),
         (RIGHT_ELBOW, RIGHT_WRIST))  # fmt: skip
SAMPLES = 9  # along each side of a head or a torso


@dataclass(frozen=True)
class Person:
    """A person found by the pose model.  is_sure: the pose is theirs; in a dense group it may be a neighbour's."""

    pose: Pose
    is_sure: bool = True

    @property
    def size(self) -> float:
        """Of the upper body, in pixels: nearly the same whichever way it is turned."""
        left, right = self.pose[LEFT_SHOULDER], self.pose[RIGHT_SHOULDER]
        hips = (self.pose[LEFT_HIP] + self.pose[RIGHT_HIP]) / 2
        length = float(np.linalg.norm((left + right) / 2 - hips))
        return max(1.0, float(np.linalg.norm(left - right)), 0.7 * length)

    @property
    def head(self) -> Plane:
        """The middle of the face, x and y."""
        middle: Plane = self.pose.points[: MOUTH_RIGHT + 1].mean(0)
        return middle

    def upper_box(self, width: int, height: int) -> Box:
        """The box around head and shoulders, as far as it is in the picture."""
        shoulders = self.pose.points[[LEFT_SHOULDER, RIGHT_SHOULDER]]
        reach = HEAD * self.size
        corners = np.concatenate([shoulders, self.head + np.array([[-reach, -1.3 * reach], [reach, reach]])])
        return _box_around(corners, 0.0, width, height)

    def body_box(self, width: int, height: int) -> Box:
        """The box around the whole body with a margin, as far as it is in the picture."""
        body = _box_around(self.pose.points, MARGIN * self.size, width, height)
        return around([body, self.upper_box(width, height)])

    def head_samples(self) -> Plane:
        """(n, 2): points on the face."""
        steps = np.linspace(-0.6, 0.6, SAMPLES, dtype=np.float32) * np.float32(HEAD * self.size)
        across, down = np.meshgrid(steps, steps)
        points: Plane = np.stack([across.ravel(), down.ravel()], -1) + self.head
        return points

    def torso_samples(self) -> Plane:
        """(n, 2): points between shoulders and hips, not at the very edge."""
        steps = np.linspace(0.2, 0.8, SAMPLES, dtype=np.float32)
        across, down = (a.ravel()[:, None] for a in np.meshgrid(steps, steps))
        upper = self.pose[RIGHT_SHOULDER] * (1 - across) + self.pose[LEFT_SHOULDER] * across
        lower = self.pose[RIGHT_HIP] * (1 - across) + self.pose[LEFT_HIP] * across
        points: Plane = upper * (1 - down) + lower * down
        return points


def subjects(people: Sequence[Person]) -> list[Person]:
    """The persons that a mask must show: the largest, and all who are not much smaller.  If a pose is not sure, it is
    unknown what the mask lacks; so such a person counts only if there is no other.  people: at least one."""
    sure = [person for person in people if person.is_sure] or people[:1]
    largest = max(person.size for person in sure)
    return [person for person in sure if person.size >= SUBJECT * largest]


def unsure_subjects(people: Sequence[Person]) -> list[Person]:
    """Persons as large as a subject, but with an unsure pose.  people: at least one."""
    largest = max(person.size for person in subjects(people))
    return [person for person in people if not person.is_sure and person.size >= SUBJECT * largest]


def has(mask: Plane, person: Person) -> bool:
    """Whether a mask of the picture, values in [0, 1], shows a person: most of their head and of their torso.
    Parts outside the picture do not count; a person completely outside is not shown."""
    shares = [_covered(mask, samples) for samples in (person.head_samples(), person.torso_samples())]
    known = [share for share in shares if share is not None]
    return bool(known) and min(known) >= LEAST_COVERED


def nearest_to(one: Person, others: Sequence[Person], width: int, height: int) -> Plane:
    """1 where the picture is nearer to a person's bones than to any other person's, in sizes of each; (h, w)."""
    scale = min(1.0, SMALL / max(width, height))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    own = _from_bones(one, scale, *small)
    share = np.ones_like(own)
    for other in others:
        share = np.minimum(share, smoothstep(-0.04, 0.04, _from_bones(other, scale, *small) - own))
    return resized(share, width, height)


def _from_bones(person: Person, scale: float, width: int, height: int) -> Plane:
    """How far each pixel is from the nearest of a person's bones, in their size."""
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    pose = person.pose
    middle = (pose[LEFT_SHOULDER] + pose[RIGHT_SHOULDER]) / 2, (pose[LEFT_HIP] + pose[RIGHT_HIP]) / 2
    bones = [(person.head, middle[0]), middle, *((pose[start], pose[end]) for start, end in BONES)]
    distances = [to_segment(x, y, start * scale, end * scale) for start, end in bones]
    nearest: Plane = np.minimum.reduce(distances) / (scale * person.size)
    return nearest


def _covered(mask: Plane, samples: Plane) -> float | None:
    """The share of sample points on the mask; None where hardly any lies in the picture."""
    height, width = mask.shape
    x, y = np.floor(samples).astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if inside.sum() < len(samples) // 8:
        return None
    return float((mask[y[inside], x[inside]] > 0.5).mean())


def _box_around(points: Plane, margin: float, width: int, height: int) -> Box:
    (left, top), (right, bottom) = points.min(0) - margin, points.max(0) + margin
    box = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    return within(box, width, height)
