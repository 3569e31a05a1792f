"""Where the person's joints are: a detector finds the body, a second model its 33 landmarks (MediaPipe
BlazePose).

The detector sees the whole picture, letter-boxed; its best box gives the hip's centre, and a point whose
distance is the body's radius and whose direction is up.  The landmark model sees that circle's square, turned
upright.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from actors.providers.studio.faults import NoPersonFound
from actors.providers.studio.nets import net
from actors.providers.studio.planes import Plane, to_array

DETECTOR_SIDE, LANDMARK_SIDE = 224, 256
STRIDES = ((8, 2), (16, 2), (32, 6))  # (pixels per cell, boxes per cell)
LEAST_SCORE = 0.4
NOSE, LEFT_EAR, RIGHT_EAR, MOUTH_LEFT, MOUTH_RIGHT = 0, 7, 8, 9, 10
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST, RIGHT_WRIST = 11, 12, 13, 14, 15, 16
LEFT_INDEX, RIGHT_INDEX, LEFT_HIP, RIGHT_HIP = 19, 20, 23, 24


@dataclass(frozen=True)
class Pose:
    """points: (33, 2) in pixels of the picture, x and y.  seen: (33,) how surely each is in view and not
    hidden. "Left" is the person's left."""

    points: Plane
    seen: Plane

    def __getitem__(self, landmark: int) -> Plane:
        point: Plane = self.points[landmark]
        return point


@dataclass(frozen=True)
class _Body:
    """The turned square around a body: centre and side in pixels, angle from upright in radians."""

    x: float
    y: float
    side: float
    angle: float


def find_pose(picture: Image.Image) -> Pose:
    """The pose of the clearest person.  Raises NoPersonFound."""
    long_side = max(picture.size)
    square = Image.new("RGB", (long_side, long_side))
    margin = (long_side - picture.width) // 2, (long_side - picture.height) // 2
    square.paste(picture, margin)
    body = _detect(square)
    points, seen = _landmarks(square, body)
    return Pose(points - np.array(margin, np.float32), seen)


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


def _detect(square: Image.Image) -> _Body:
    small = square.resize((DETECTOR_SIDE, DETECTOR_SIDE), Image.Resampling.BILINEAR)
    boxes, scores = net("pose_detection")(to_array(small) * 2 - 1)
    best = int(scores[0, :, 0].argmax())
    if _sigmoid(scores[0, best, 0]) < LEAST_SCORE:
        raise NoPersonFound("No person whose shoulders and hips can be told was found in the first picture.")
    key_points = (boxes[0, best, 4:].reshape(4, 2) / DETECTOR_SIDE + _anchors()[best]) * square.width
    (hip_x, hip_y), (rim_x, rim_y) = key_points[0].tolist(), key_points[1].tolist()
    radius = math.hypot(rim_x - hip_x, rim_y - hip_y)
    return _Body(hip_x, hip_y, 2 * radius * 1.25, math.atan2(rim_x - hip_x, hip_y - rim_y))


def _landmarks(square: Image.Image, body: _Body) -> tuple[Plane, Plane]:
    outputs = net("pose_landmark_full")(to_array(_upright(square, body)))
    if float(outputs[1].ravel()[0]) < 0.5:
        raise NoPersonFound("No person whose shoulders and hips can be told was found in the first picture.")
    found = outputs[0].reshape(39, 5)[:33]
    across, down = (found[:, :2] / LANDMARK_SIDE - 0.5).T * body.side
    cos, sin = math.cos(body.angle), math.sin(body.angle)
    points = np.stack([body.x + across * cos - down * sin, body.y + across * sin + down * cos], -1)
    return points.astype(np.float32), _sigmoid(found[:, 3])


def _upright(square: Image.Image, body: _Body) -> Image.Image:
    """The body's square, turned upright, as the landmark model wants it."""
    scale = body.side / LANDMARK_SIDE
    cos, sin = math.cos(body.angle) * scale, math.sin(body.angle) * scale
    middle = LANDMARK_SIDE / 2
    matrix = (cos, -sin, body.x - (cos - sin) * middle, sin, cos, body.y - (sin + cos) * middle)
    size = (LANDMARK_SIDE, LANDMARK_SIDE)
    return square.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _sigmoid(x: Plane) -> Plane:
    share: Plane = 1 / (1 + np.exp(-x.clip(-30, 30)))
    return share
