"""The body under the cloth: its axes, how far it reaches to both sides, and its arms as strips along their bones.

Left and right are as seen in the picture.  A point of the torso is (s, h): s = −1 at its left side and 1 at
its right one, h in pixels above the shoulders' middle.  A point of an arm is (a, v): a = 0 at the shoulder's
joint and 1 at the wrist, v = 1 at the arm's outer side and −1 at its inner one, as the arm hangs.  Both follow the
outline where it shows, and a usual body's proportions where it does not, as before a folded arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.providers.studio.fitting.bending import Points
from actors.providers.studio.vision.planes import Plane
from actors.providers.studio.vision.pose import (
    LEFT_ELBOW,
    LEFT_HIP,
    LEFT_SHOULDER,
    LEFT_WRIST,
    RIGHT_ELBOW,
    RIGHT_HIP,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Pose,
)

SIDES = {"left": -1.0, "right": 1.0}  # and the sign of s there
LEFT_ARM, RIGHT_ARM = (
    (LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST),
    (RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST),
)
# half of a clothed arm's thickness at shoulder, elbow and wrist, of the shoulders' width
USUAL_ARM = np.array([0.22, 0.17, 0.13])
LEAST_HALF = 0.45  # of a usual half: the bone lies within its arm
OUTERMOST = 0.45  # s of a joint beyond which nothing but the arm is at its outer side
NECK = 0.22  # half of a neck's width where it meets the shoulders, of the shoulders' width
SURE_ELBOW, SURE_WRIST = 0.5, 0.75  # of a pose's points: below it, their places may be wrong
FOLDED = -0.8  # the cosine from which a forearm lies back along its upper arm
LEAST_FOREARM = 0.6  # of the upper arm; a shorter one is foreshortened or wrong
FOREARM = 0.85  # of the upper arm
WITH_HAND = 1.4  # of an arm
LEAST_SEEN = 0.35  # of an elbow: of an arm behind the back no sleeve shows


@dataclass(frozen=True)
class Torso:
    """middle: between the shoulders.  across: to the side seen on the right.  up: to the head, both of length 1.
    is_faced: whether the front is seen, so that the person's right arm is seen on the left.
    width: of the shoulders, never narrower than a body seen from the side.  height: shoulders to hips.
    heights: (n,) below the middle, in pixels.  left, right: (n,) how far the body reaches there, usually; past the
    outline where that shows.  shoulders: (left, right), how high each shoulder's line lies above the middle at the
    neck and at its outer end."""

    middle: Points
    across: Points
    up: Points
    is_faced: bool
    width: float
    height: float
    heights: Points
    left: Points
    right: Points
    shoulders: tuple[tuple[float, float], tuple[float, float]]

    def coordinates(self, points: Points) -> tuple[Points, Points]:
        """(s, h) of points."""
        away = points - self.middle
        # `across` need not stand upright on `up`: a body that leans has slanting shoulders
        matrix = np.linalg.inv(np.stack([self.across, self.up], -1))
        x, h = (away @ matrix.T).T
        reach = np.where(
            x < 0, np.interp(-h, self.heights, self.left), np.interp(-h, self.heights, self.right)
        )
        return x / reach, h

    def at(self, s: float, h: float) -> Points:
        """The point of the picture with these coordinates."""
        reach = np.interp(-h, self.heights, self.left if s < 0 else self.right)
        place: Points = self.middle + self.across * s * reach + self.up * h
        return place


def torso_of(pose: Pose, alpha: Plane) -> Torso:
    """alpha: where the person is, (h, w)."""
    left, right = pose[LEFT_SHOULDER].astype(float), pose[RIGHT_SHOULDER].astype(float)
    hips = (pose[LEFT_HIP].astype(float) + pose[RIGHT_HIP].astype(float)) / 2
    middle = (left + right) / 2
    height = max(1.0, float(np.linalg.norm(middle - hips)))
    up = (middle - hips) / height
    apart = float(np.linalg.norm(left - right))
    width = max(apart, 0.55 * height)
    # seen from the side the shoulders lie over each other, and their line says nothing
    level = np.array([-up[1], up[0]])
    is_faced = bool(level @ (left - right) >= 0)
    slope = (left - right if is_faced else right - left) / max(apart, 1e-6)
    trust = min(max((apart / height - 0.2) / 0.3, 0.0), 1.0)
    across = trust * slope + (1 - trust) * level
    across /= float(np.linalg.norm(across))
    heights = np.linspace(-0.35, 1.6, 27) * height
    left_reach, right_reach = (
        _reaches(alpha, middle, sign * across, up, width, heights) for sign in SIDES.values()
    )
    lines = [_shoulder_line(alpha, middle, sign * across, up, width) for sign in SIDES.values()]
    return Torso(
        middle, across, up, is_faced, width, height, heights, left_reach, right_reach, (lines[0], lines[1])
    )


def _shoulder_line(
    alpha: Plane, middle: Points, outward: Points, up: Points, width: float
) -> tuple[float, float]:
    """How high a shoulder's line lies above the joints, at the neck and at its outer end, in pixels."""
    aside = np.array([0.34, 0.42, 0.50, 0.58]) * width
    found = [to_outline(alpha, middle + outward * far, up, most=0.42 * width) for far in aside]
    known = np.array([(far, reach) for far, reach in zip(aside, found, strict=True) if reach is not None])
    if len(known) < 2:
        return 0.24 * width, 0.06 * width
    slope = float(np.clip(np.polyfit(known[:, 0], known[:, 1], 1)[0], -0.7, -0.15))
    level = float(np.median(known[:, 1] - slope * known[:, 0]))
    at_neck, at_end = (level + slope * share * width for share in (NECK, 0.62))
    return min(at_neck, 0.36 * width), min(max(at_end, -0.05 * width), 0.25 * width)


def _reaches(
    alpha: Plane, middle: Points, outward: Points, up: Points, width: float, heights: Points
) -> Points:
    """How far one side of the body reaches at each height: to the outline, and no farther than a clothed body does
    beside a hanging arm."""
    most = np.interp(heights / width, [-0.3, 0.0, 0.25, 0.6, 1.5], [0.80, 0.80, 0.68, 0.62, 0.70]) * width
    starts = middle - up * heights[:, None]
    found = np.array(
        [to_outline(alpha, start, outward, most=far) or far for start, far in zip(starts, most, strict=True)]
    )
    found = np.maximum(found, 0.3 * width)
    # cloth spans small hollows: the widest of the neighbours, and no corners
    padded = np.pad(found, 2, mode="edge")
    spanned = np.max([padded[n : n + len(found)] for n in (1, 2, 3)], 0)
    padded = np.pad(spanned, 2, mode="edge")
    smooth: Points = np.mean([padded[n : n + len(found)] for n in range(5)], 0)
    return smooth * 1.03


def to_outline(alpha: Plane, start: Points, direction: Points, *, most: float) -> float | None:
    """How far the person reaches from `start`, in pixels; None where they do not end within `most`, or where the
    picture does."""
    height, width = alpha.shape
    far = np.arange(0.0, max(2.0, most), 1.0)
    x, y = (start + direction * far[:, None]).astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    empty = inside & (alpha[y.clip(0, height - 1), x.clip(0, width - 1)] < 0.5)
    ends = np.flatnonzero(empty)
    if not len(ends) or not inside[: ends[0]].all():
        return None
    return float(far[ends[0]])


@dataclass(frozen=True)
class Arm:
    """A strip along shoulder, elbow, wrist.  joints: (3, 2).  normal: 1 or −1, how the outer side lies.
    shares: (n,) along the arm.  outer, inner: (n,) half of its thickness there, in pixels.
    outer_room, inner_room: (n,) how much farther than that all is the arm's, in its halves: much where the arm lies
    outermost, a little where the outline shows, and nothing before the body.  shown: up to which of its shares it is
    seen; a forearm behind a thing, a desk or so, does not lie before the body.  sure: up to which its place is known.
    """

    joints: Points
    normal: float
    shares: Points
    outer: Points
    inner: Points
    outer_room: Points
    inner_room: Points
    shown: float = WITH_HAND
    sure: float = WITH_HAND

    @property
    def lengths(self) -> tuple[float, float]:
        """Of the upper arm and the forearm, in pixels."""
        bones = np.linalg.norm(np.diff(self.joints, axis=0), axis=1).clip(1.0)
        return float(bones[0]), float(bones[1])

    def coordinates(self, points: Points) -> tuple[Points, Points]:
        """(a, v) of points.  a goes on below 0 above the joint, and beyond 1 below the wrist."""
        (upper, lower), (first, second) = self.lengths, self._ways()
        aside, aside_below = (self.normal * np.array([-way[1], way[0]]) for way in (first, second))
        away = points - self.joints[1]
        way, side = away @ first, away @ aside  # from the elbow
        way_below, side_below = away @ second, away @ aside_below
        # within the bend both bones are equally near where their bisector runs
        bend = float(second @ aside)  # > 0: the forearm goes to the outer side
        is_upper = away @ (first + second) < 0
        corner = (way > 0) & (way_below < 0)
        fold = abs(bend) / max(0.3, 1 + float(first @ second))  # tangent of half the angle
        hollow = np.sign(bend or 1.0)
        # cloth on the inside of the bend is pressed together, so that it still reaches the elbow there
        deep, deep_below = ((values * hollow).clip(0) * fold for values in (side, side_below))
        up_here = (
            upper
            + way * upper / (upper - deep.clip(0, 0.7 * upper))
            + np.where(way < 0, deep.clip(0, 0.7 * upper) * upper / (upper - deep.clip(0, 0.7 * upper)), 0.0)
        )
        below_here = upper + (way_below - deep_below.clip(0, 0.7 * lower)) * lower / (
            lower - deep_below.clip(0, 0.7 * lower)
        )
        a = np.where(is_upper, np.minimum(up_here, upper), np.maximum(below_here, upper)) / (upper + lower)
        aside_of = np.where(is_upper, side, side_below)
        # outside the bend the cloth turns about the elbow
        aside_of = np.where(corner, -hollow * np.hypot(away[:, 0], away[:, 1]), aside_of)
        a = np.where(corner, upper / (upper + lower), a)
        reach = np.where(
            aside_of > 0, np.interp(a, self.shares, self.outer), np.interp(a, self.shares, self.inner)
        )
        return a, aside_of / reach

    def _ways(self) -> tuple[Points, Points]:
        """The directions of the upper arm and the forearm."""
        first, second = np.diff(self.joints, axis=0)
        upper, lower = self.lengths
        first, second = first / upper, second / lower
        return first, second if float(np.linalg.norm(second)) > 0.5 else first

    @property
    def armhole(self) -> float:
        """Where the sleeve begins at the arm's outer side, as an `a`: above the joint, over the shoulder."""
        return -0.8 * float(self.outer[0]) / sum(self.lengths)


def seen_of(arm: Arm, points: Points, *, end: float) -> Points:
    """How surely each point lies on an arm, from the shoulder to `end` of its length; values in [0, 1]."""
    a, v = arm.coordinates(points)
    room = np.where(v > 0, np.interp(a, arm.shares, arm.outer_room), np.interp(a, arm.shares, arm.inner_room))
    soft = 2.5 / max(1.0, float(arm.outer.mean()))
    beside = ((1 + room - abs(v)) / soft + 0.5).clip(0, 1)
    length = sum(arm.lengths)
    # the seam runs from the armpit up over the shoulder
    begins = arm.armhole * (0.5 + 0.5 * v).clip(0, 1) ** 0.7
    along = ((end - a) * length / 3 + 0.5).clip(0, 1) * ((a - begins) * length / 3 + 0.5).clip(0, 1)
    seen: Points = beside * along
    return seen


def arm_of(side: str, pose: Pose, torso: Torso, alpha: Plane) -> Arm | None:
    """The arm of a side, or None where it does not show."""
    joints_of = RIGHT_ARM if (side == "left") == torso.is_faced else LEFT_ARM
    if pose.seen[joints_of[1]] < LEAST_SEEN:
        return None
    joints = np.array([pose[landmark] for landmark in joints_of], float)
    is_guessed = _is_drawn_in(joints, pose.seen[list(joints_of)])
    if is_guessed:
        joints[2] = _likely_wrist(joints, torso)
    normal = -SIDES[side]
    shares = np.array([0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0])
    arm = Arm(joints, normal, shares, *np.ones((4, 8)))
    usual = np.interp(shares, [0.0, 0.5, 1.0], USUAL_ARM) * torso.width
    measured = {sign: _thickness(arm, sign, alpha, usual) for sign in (1.0, -1.0)}
    known = [m[~np.isnan(m)] / usual[~np.isnan(m)] for m in measured.values()]
    loose = float(np.clip(np.median(np.concatenate(known)), 0.7, 1.35)) if sum(map(len, known)) else 1.0
    outer, inner = (
        _even(np.where(np.isnan(m), _beyond(usual, loose, other), m))
        for m, other in zip(measured.values(), reversed(measured.values()), strict=True)
    )
    # an armhole begins in the armpit, not on the chest
    inner = inner * np.interp(shares, [0.0, 0.3], [0.55, 1.0])
    outer_room, inner_room = (np.where(np.isnan(m), 0.0, 0.6) for m in measured.values())
    s, _ = torso.coordinates(joints)
    elbow = arm.lengths[0] / sum(arm.lengths)
    if s[1] * SIDES[side] > OUTERMOST:
        outer_room[shares <= elbow - 0.12] = 3.0  # however thick the old sleeve is
        if s[2] * SIDES[side] > OUTERMOST and is_turned_out(arm, torso, side):
            outer_room[:] = 3.0
    is_hidden = pose.seen[joints_of[2]] < 0.5 and not _is_on(alpha, joints[1])
    shown, sure = elbow if is_hidden else WITH_HAND, elbow if is_guessed else WITH_HAND
    return Arm(joints, normal, shares, outer * 1.06, inner * 1.02, outer_room, inner_room, shown, sure)


def is_turned_out(arm: Arm, torso: Torso, side: str) -> bool:
    """Whether a forearm's outer side looks away from the body; that of one which is bent up looks to it."""
    _, outward = _on_bone(arm, 1.0)
    return bool(outward @ torso.across * SIDES[side] > 0)


def _is_on(alpha: Plane, place: Points) -> bool:
    """Whether the person is seen at a place; taken for granted outside of the picture."""
    x, y = place.astype(int)
    is_inside = 0 <= x < alpha.shape[1] and 0 <= y < alpha.shape[0]
    return not is_inside or bool(alpha[y, x] > 0.5)


def _is_drawn_in(joints: Points, seen: Plane) -> bool:
    """Whether the pose model has put a hidden wrist too near to a sure elbow, or any wrist onto its own upper arm."""
    upper, lower = np.linalg.norm(np.diff(joints, axis=0), axis=1)
    is_hidden = seen[1] > SURE_ELBOW and seen[2] < SURE_WRIST
    return bool((is_hidden or _is_folded(joints)) and lower < LEAST_FOREARM * upper)


def _is_folded(joints: Points) -> bool:
    """Whether a forearm lies back along its upper arm."""
    upper, lower = np.diff(joints, axis=0)
    return bool(upper @ lower < FOLDED * np.linalg.norm(upper) * np.linalg.norm(lower))


def _likely_wrist(joints: Points, torso: Torso) -> Points:
    """Where a forearm of usual length ends."""
    upper, lower = np.diff(joints, axis=0)
    long, short = float(np.linalg.norm(upper)), float(np.linalg.norm(lower))
    # of a stump, the direction is chance
    is_known = short > USUAL_ARM[2] * torso.width and not _is_folded(joints)
    way = lower / short if is_known else upper / max(1.0, long)
    likely: Points = joints[1] + way * long * FOREARM
    return likely


def _beyond(usual: Points, loose: float, other: Points) -> Points:
    """Half of an arm's thickness where no outline shows, in pixels.  other: its other half as measured, or NaN: an arm
    that reaches far to one side of its bones has that much less on the other, because they are not in its middle."""
    rest = (2 * usual - other).clip(LEAST_HALF * usual, usual * loose)
    half: Points = np.where(np.isnan(other), usual * loose, rest)
    return half


def _thickness(arm: Arm, sign: float, alpha: Plane, usual: Points) -> Points:
    """How far the arm reaches to one side at each of its shares, in pixels; NaN where no outline shows."""
    found = []
    for share, expected in zip(arm.shares, usual, strict=True):
        place, aside = _on_bone(arm, share)
        reach = to_outline(alpha, place, sign * aside, most=(2.2 if sign > 0 else 1.7) * expected)
        found.append(np.nan if reach is None or reach < 0.35 * expected else reach)
    return np.array(found)


def _on_bone(arm: Arm, share: float) -> tuple[Points, Points]:
    """(the point at a share of an arm's length, the direction to its outer side)."""
    upper, lower = arm.lengths
    way = share * (upper + lower)
    start, end, done, length = (
        (arm.joints[0], arm.joints[1], way, upper)
        if way <= upper
        else (arm.joints[1], arm.joints[2], way - upper, lower)
    )
    along = (end - start) / length
    return start + along * done, arm.normal * np.array([-along[1], along[0]])


def _even(reach: Points) -> Points:
    """Without the steps between what was measured and what is usual."""
    padded = np.pad(reach, 1, mode="edge")
    smooth: Points = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return smooth


def arms_of(pose: Pose, torso: Torso, alpha: Plane) -> dict[str, Arm]:
    """The arms that show, by their sides."""
    arms = {side: arm_of(side, pose, torso, alpha) for side in SIDES}
    return {side: arm for side, arm in arms.items() if arm is not None}


def box_around(points: Sequence[Points], margin: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of a picture around points.  size: its width and height."""
    places = np.array(points)
    low, high = places.min(0) - margin, places.max(0) + margin
    left, top = (int(max(0, value)) for value in low)
    return left, top, int(min(size[0], max(left + 1, high[0]))), int(min(size[1], max(top + 1, high[1])))
