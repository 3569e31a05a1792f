"""Where a garment's points belong on a body: the tailor's arithmetic between a garment and a pose.

The body panel is stretched between the body's two sides, row by row from the shoulders to the hem; a sleeve is laid
along its arm and bends with the elbow.  Both are drawn a little too wide and end where the person does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from actors.providers.studio.fitting.bending import Points, bent
from actors.providers.studio.fitting.body import (
    NECK,
    OUTERMOST,
    SIDES,
    WITH_HAND,
    Arm,
    Torso,
    box_around,
    is_turned_out,
    seen_of,
)
from actors.providers.studio.fitting.garment import Garment
from actors.providers.studio.vision.planes import Plane, resized, smoothstep, to_array

LONG_SLEEVE = 0.97  # of the arm
SLEEVE_ROOM = 0.2  # of an arm's half: what lies farther outside may be a thing that the arm holds
WIDEST = 1.4  # so many times its usual reach may a body be wide
BELLY = (0.6, 0.72)  # s of a body up to which it goes on beyond a forearm that lies before it
STEP = 2  # pixels: an arm's outline is computed on every other one


@dataclass(frozen=True)
class Cut:
    """How a garment is worn.  ease: width beyond the body's.  length, sleeve: factors."""

    ease: float = 1.0
    length: float = 1.0
    sleeve: float = 1.0


@dataclass(frozen=True)
class Piece:
    """A piece of a garment at its place.  cloth: (h, w, 3).  cover: (h, w).  usual: (h, w), 0 where a body
    or an arm is wider than usual, so that what is there may be neither.  arm: whose sleeve it is."""

    cloth: Plane
    cover: Plane
    usual: Plane
    arm: str | None = None


def body_piece(garment: Garment, torso: Torso, cut: Cut, size: tuple[int, int]) -> Piece:
    """The garment without its sleeves.  size: width and height of the picture."""
    points = garment.points
    left, right = points["left hem"][0], points["right hem"][0]
    middle, half = (left + right) / 2, max(1.0, (right - left) / 2)
    bottom = points["hem"][1]
    scale = min(1.0, 2 * float(torso.left.mean() + torso.right.mean()) / 2 / max(1.0, right - left))
    picture = _smaller(garment.body_picture(), scale)
    # the line of the shoulders: seam, neck, neck, seam
    knots_there = np.array([-1.0, *((points[f"{side} neck"][0] - middle) / half for side in SIDES), 1.0])
    knots_there[1], knots_there[2] = min(knots_there[1], -0.12), max(knots_there[2], 0.12)
    tops_there = np.array([points[f"{side} {name}"][1] for side, name in _LINE])
    neck = NECK * torso.width / float(np.interp(0, torso.heights, (torso.left + torso.right) / 2))
    knots = np.array([-1.0, -neck, neck, 1.0])
    (left_rise, left_drop), (right_rise, right_drop) = torso.shoulders
    tops = np.array([left_drop, left_rise, right_rise, right_drop]) + 0.03 * torso.width
    hem = -_hem(torso, tall=bottom - float(tops_there.mean()), wide=2 * half) * cut.length

    def where(places: Points) -> Points:
        s, h = torso.coordinates(places)
        s = s / cut.ease
        top = np.interp(s, knots, tops)
        # a hem is seen a little from above: it hangs lower in the middle
        low = hem - 0.05 * torso.width * (1 - s.clip(-1, 1) ** 2)
        down = (top - h) / (top - low)
        near_neck = 1 - smoothstep(0.0, 0.35, down)
        stretched = np.where(abs(s) <= 1, np.interp(s, knots, knots_there), s)
        across = s + (stretched - s) * near_neck
        top_there = np.interp(across, knots_there, tops_there)
        x, y = middle + across * half, top_there + down * (bottom - top_there)
        # the cloth reaches the outline in every row, though the garment itself may be narrower there
        edges = _edges(garment, left, right, y)
        worn = edges[0] + (across + 1) / 2 * (edges[1] - edges[0])
        x = np.where(down > 0.3, worn, x)
        # beyond the side seams the cloth goes on: the body's outline ends it, or an arm that lies over it
        x = np.where(abs(s) > 1.0, x.clip(edges[0], edges[1]), x)
        x = np.where(abs(s) > WIDEST, -1e4, x)
        return np.stack([x, y], -1) * scale

    corners = [
        torso.at(s, h) for s in (-WIDEST, WIDEST) for h in (0.5 * torso.width, hem - 0.1 * torso.width)
    ]
    laid = to_array(bent(picture, where, box_around(corners, 12, size), size))
    return Piece(laid[..., :3], laid[..., 3], _usual(torso, size))


def _usual(torso: Torso, size: tuple[int, int]) -> Plane:
    """1 within a body's usual reach, 0 beyond, (h, w)."""
    across, down = np.meshgrid(np.arange(0, size[0], 4 * STEP), np.arange(0, size[1], 4 * STEP))
    s, _ = torso.coordinates(np.stack([across, down], -1).reshape(-1, 2).astype(np.float64))
    within = smoothstep(1.08, 1.02, abs(s)).reshape(across.shape).astype(np.float32)
    return resized(within, *size)


_LINE = (("left", "shoulder"), ("left", "neck"), ("right", "neck"), ("right", "shoulder"))


def _edges(garment: Garment, left: float, right: float, y: Points) -> tuple[Points, Points]:
    """Where the body of the garment begins and ends in each of the rows y."""
    cloth = garment.solid[:, int(left) : int(right) + 1]
    begins = np.where(cloth.any(1), cloth.argmax(1), 0)
    ends = np.where(cloth.any(1), cloth.shape[1] - cloth[:, ::-1].argmax(1), cloth.shape[1])
    rows = y.round().astype(int).clip(0, len(cloth) - 1)
    return left + begins[rows] + 2.0, left + ends[rows] - 2.0


def _hem(torso: Torso, *, tall: float, wide: float) -> float:
    """How far below the shoulders the hem hangs, in pixels: the garment keeps its proportions within what looks
    worn."""
    natural = (
        tall / max(1.0, wide) * float(np.interp(0.5 * torso.height, torso.heights, torso.left + torso.right))
    )
    return min(max(natural, 0.98 * torso.height), 1.45 * torso.height)


def sleeve_piece(
    garment: Garment, side: str, arm: Arm, torso: Torso, cut: Cut, size: tuple[int, int]
) -> Piece:
    """The sleeve of a side along its arm."""
    end = sleeve_end(garment, side, cut)
    length = max(8, round(sum(arm.lengths) * (end - arm.armhole)))
    thick = max(8, round(float(arm.outer.mean() + arm.inner.mean())))
    straight = garment.sleeve_picture(side, (length, thick)).convert("RGBA")

    def where(places: Points) -> Points:
        a, v = arm.coordinates(places)
        # what lies beyond an end is the cloth of that end: the arm's place is told by `seen_of`
        return np.stack(
            [
                ((a - arm.armhole) / (end - arm.armhole) * length).clip(0.5, length - 1.5),
                ((1 - v) / 2 * thick).clip(0.5, thick - 1.5),
            ],
            -1,
        )

    box = arm_box(arm, size)
    cloth = to_array(bent(straight, where, box, size))[..., :3]
    near = replace(arm, outer_room=arm.outer_room.clip(0, SLEEVE_ROOM))
    usual = arm_plane(near, box, size, end=min(end, arm.sure), step=4 * STEP)
    return Piece(cloth, arm_plane(arm, box, size, end=min(end, arm.shown)), usual, side)


def arm_box(arm: Arm, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of a picture outside of which an arm is not, its hand included."""
    hand = arm.joints[2] + (arm.joints[2] - arm.joints[1]) * 0.6
    return box_around([*arm.joints, hand], float(max(arm.outer.max(), arm.inner.max())) * 1.7, size)


def arm_plane(
    arm: Arm, box: tuple[int, int, int, int], size: tuple[int, int], *, end: float, step: int = STEP
) -> Plane:
    """Where an arm is, up to `end` of its length, (h, w).  box: outside of which it is not.  step: in pixels."""
    left, top, right, bottom = box
    across, down = np.meshgrid(np.arange(left, right, step), np.arange(top, bottom, step))
    places = np.stack([across, down], -1).reshape(-1, 2).astype(np.float64)
    seen = seen_of(arm, places, end=end).reshape(across.shape).astype(np.float32)
    plane = np.zeros((size[1], size[0]), np.float32)
    plane[top:bottom, left:right] = resized(seen, right - left, bottom - top)
    return plane


def beside_plane(arm: Arm, torso: Torso, side: str, size: tuple[int, int]) -> Plane:
    """Where no body can be, since it lies beyond the outer side of an arm whose elbow is outermost, (h, w)."""
    elbow, _ = torso.coordinates(arm.joints[1:2])
    if elbow[0] * SIDES[side] <= OUTERMOST:
        return np.zeros((size[1], size[0]), np.float32)
    across, down = np.meshgrid(np.arange(0, size[0], 2 * STEP), np.arange(0, size[1], 2 * STEP))
    places = np.stack([across, down], -1).reshape(-1, 2).astype(np.float64)
    a, v = arm.coordinates(places)
    s, _ = torso.coordinates(places)
    # before the belly, the body goes on beyond a forearm
    most = WITH_HAND if is_turned_out(arm, torso, side) else arm.lengths[0] / sum(arm.lengths)
    beyond = smoothstep(0.5, 0.8, v) * smoothstep(*BELLY, s * SIDES[side]) * (a > 0) * (a < most)
    return resized(beyond.reshape(across.shape).astype(np.float32), *size)


def sleeve_end(garment: Garment, side: str, cut: Cut) -> float:
    """How far down an arm its sleeve reaches, wrist = 1."""
    if garment.long_sleeves:
        return min(LONG_SLEEVE * cut.sleeve, 1.0)
    points = garment.points
    length = float(np.linalg.norm(np.subtract(points[f"{side} cuff"], points[f"{side} shoulder"])))
    wide = max(1.0, points["right hem"][0] - points["left hem"][0])
    # an arm is about one and a half times as long as the shoulders are wide
    natural = length / wide * 2 * 0.62 / 1.55
    return min(max(natural, 0.24), 0.5) * cut.sleeve


def _smaller(picture: Image.Image, scale: float) -> Image.Image:
    """To its final scale first: bending looks at single pixels and would break a fine pattern."""
    if scale >= 1:
        return picture
    size = max(2, round(picture.width * scale)), max(2, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)
