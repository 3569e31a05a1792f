"""Where a person's joints are: 33 landmarks in the square around a body (MediaPipe BlazePose).

A body is what the detector of `people` finds: the hip's centre, the square around the whole body, the way up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from actors.providers.studio.vision.nets import net
from actors.providers.studio.vision.planes import Plane, sigmoid, to_array

LANDMARK_SIDE = 256
LEAST_PRESENCE = 0.5
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
class Body:
    """The turned square around a body: centre and side in pixels, angle from upright in radians.
    score: how surely it is one, in [0, 1]."""

    x: float
    y: float
    side: float
    angle: float
    score: float


def pose_of(picture: Image.Image, body: Body) -> Pose | None:
    """The pose of a body, or None where the landmark model sees no person."""
    outputs = net("pose_landmark_full")(to_array(_upright(picture, body)))
    if float(outputs[1].ravel()[0]) < LEAST_PRESENCE:
        return None
    found = outputs[0].reshape(39, 5)[:33]
    across, down = (found[:, :2] / LANDMARK_SIDE - 0.5).T * body.side
    cos, sin = math.cos(body.angle), math.sin(body.angle)
    points = np.stack([body.x + across * cos - down * sin, body.y + across * sin + down * cos], -1)
    return Pose(points.astype(np.float32), sigmoid(found[:, 3]))


def _upright(picture: Image.Image, body: Body) -> Image.Image:
    """The body's square, turned upright, as the landmark model wants it; black beyond the picture."""
    scale = body.side / LANDMARK_SIDE
    cos, sin = math.cos(body.angle) * scale, math.sin(body.angle) * scale
    middle = LANDMARK_SIDE / 2
    matrix = (cos, -sin, body.x - (cos - sin) * middle, sin, cos, body.y - (sin + cos) * middle)
    size = (LANDMARK_SIDE, LANDMARK_SIDE)
    return picture.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
