"""The persons in a picture: everyone whose head and shoulders can be recognised.

A detector examines the whole picture, letter-boxed.  Usually there is one large person, and one pass is enough.  If it
finds a group, a small person or nobody, it also examines squares of the picture, because its 224 pixels show only two
or three people at once.  A detected body counts if the landmark model finds one there too.  In a dense group that model
may find the neighbour: then the two models disagree about the shoulders.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from actors.providers.studio.orders.faults import NoPersonFound
from actors.providers.studio.orders.order import MOST_PEOPLE
from actors.providers.studio.vision.crops import Box, overlap, taken, tiles, whole_square
from actors.providers.studio.vision.nets import net
from actors.providers.studio.vision.person import Person
from actors.providers.studio.vision.planes import Plane, sigmoid, to_array
from actors.providers.studio.vision.pose import LEFT_SHOULDER, RIGHT_SHOULDER, Body, Pose, pose_of

DETECTOR_SIDE = 224
STRIDES = ((8, 2), (16, 2), (32, 6))  # (pixels per cell, boxes per cell)
LEAST_SCORE = 0.4
LEAST_SCORE_OF_A_PART = 0.55  # in a part of the picture a sleeve or a curtain looks like a body more easily
SAME_BOX = 0.3  # boxes that overlap so much are of one person
APART = 0.34  # of a person's size; single people were seen up to 0.27, neighbours from 0.44 on
LARGE = 0.5  # a body whose square is so much of the short side needs no closer look
NEARLY_SQUARE = 1.2  # a picture whose sides differ by more shows more people than one look tells apart


@dataclass(frozen=True)
class _Seen:
    """A body by the detector, in pixels of the picture."""

    body: Body
    box: tuple[float, ...]  # around the neck
    shoulders: Plane  # the middle between them


def find_people(picture: Image.Image) -> list[Person]:
    """All people of a picture: first those whose pose is sure, the largest first.  Raises NoPersonFound."""
    width, height = picture.size
    pixels = np.asarray(picture)
    seen = _distinct(_detect(pixels, whole_square(width, height), LEAST_SCORE))
    for square in _closer_squares(width, height, seen):
        seen = seen + _detect(pixels, square, LEAST_SCORE_OF_A_PART)
    seen = _distinct(seen)
    people: list[Person] = []
    for one in seen[:MOST_PEOPLE]:  # each costs a look of the landmark model
        pose = pose_of(picture, one.body)
        if pose is not None:
            person = Person(pose, is_sure=_agree(one, pose))
            if not any(_are_the_same(person, other) for other in people):
                people.append(person)
    if not people:
        raise NoPersonFound("No person whose head and shoulders can be told was found in the first picture.")
    return sorted(people, key=lambda person: (not person.is_sure, -person.size))


def _closer_squares(width: int, height: int, seen: Sequence[_Seen]) -> list[Box]:
    """The squares to examine after the whole picture."""
    short = min(width, height)
    if max(width, height) > NEARLY_SQUARE * short:
        return tiles(width, height, short)
    if len(seen) == 1 and seen[0].body.side >= LARGE * short:
        return []
    return tiles(width, height, round(short / 1.6))


def _agree(seen: _Seen, pose: Pose) -> bool:
    """Whether both models mean the same person."""
    middle = (pose[LEFT_SHOULDER] + pose[RIGHT_SHOULDER]) / 2
    return bool(np.linalg.norm(middle - seen.shoulders) < APART * Person(pose).size)


def _are_the_same(one: Person, other: Person) -> bool:
    """Two bodies of the detector on which the landmark model saw the same person."""
    apart = np.linalg.norm(one.pose.points[:13] - other.pose.points[:13], axis=1).mean()
    return bool(apart < 0.35 * max(one.size, other.size))


def _distinct(seen: Iterable[_Seen]) -> list[_Seen]:
    """Each person once, as it was seen most surely; the surest first."""
    kept: list[_Seen] = []
    for one in sorted(seen, key=lambda one: -one.body.score):
        if all(overlap(one.box, other.box) < SAME_BOX for other in kept):
            kept.append(one)
    return kept


@lru_cache(maxsize=1)
def _anchors() -> Plane:
    """(2254, 2): the centre of each of the detector's boxes, in [0, 1]."""
    centres = []
    for stride, boxes in STRIDES:
        cells = DETECTOR_SIDE // stride
        steps = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        down, across = np.meshgrid(steps, steps, indexing="ij")
        centres.append(np.stack([across, down], -1).reshape(-1, 2).repeat(boxes, 0))
    return np.concatenate(centres)


def _detect(pixels: np.ndarray, square: Box, least_score: float) -> list[_Seen]:
    """The bodies in a square of the picture."""
    side = square[2] - square[0]
    look = Image.fromarray(taken(pixels, square)).resize(
        (DETECTOR_SIDE, DETECTOR_SIDE), Image.Resampling.BILINEAR
    )
    boxes, scores = (output[0] for output in net("pose_detection")(to_array(look) * 2 - 1))
    sure = sigmoid(scores[:, 0])
    return [
        _seen(boxes[n] / DETECTOR_SIDE, _anchors()[n], float(sure[n]), square, side)
        for n in np.flatnonzero(sure >= least_score)
    ]


def _seen(values: Plane, anchor: Plane, score: float, square: Box, side: int) -> _Seen:
    """values: middle, size and four key points of a box, in sides of the square, from its anchor."""
    corner = np.array(square[:2])
    middle, half = (values[:2] + anchor) * side + corner, values[2:4] / 2 * side
    key_points = (values[4:10].reshape(3, 2) + anchor) * side + corner
    (hip_x, hip_y), (rim_x, rim_y) = key_points[:2].tolist()
    radius = math.hypot(rim_x - hip_x, rim_y - hip_y)
    body = Body(hip_x, hip_y, 2 * radius * 1.25, math.atan2(rim_x - hip_x, hip_y - rim_y), score)
    return _Seen(body, tuple(map(float, (*(middle - half), *(middle + half)))), key_points[2])
