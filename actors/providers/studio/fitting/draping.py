"""Where a garment's points belong on a body: the tailor's arithmetic between a garment and a pose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from actors.providers.studio.fitting.garment import Garment
from actors.providers.studio.fitting.warp import Points
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

Arm = tuple[int, int, int, int]  # landmarks: shoulder, elbow, wrist, hip
LEFT_ARM: Arm = (LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST, LEFT_HIP)
RIGHT_ARM: Arm = (RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST, RIGHT_HIP)
BODY_STIFFNESS, SHORT_SLEEVE_STIFFNESS, LONG_SLEEVE_STIFFNESS = 1e-3, 1.0, 0.02


@dataclass(frozen=True)
class Cut:
    """How a garment is worn.  ease: width beyond the body's.  length, sleeve: factors."""

    ease: float = 1.0
    length: float = 1.0
    sleeve: float = 1.0


@dataclass(frozen=True)
class Torso:
    """The body's own axes: `across` points to the person's left, `up` to the head; `shoulder_width` in
    pixels."""

    middle: Points
    across: Points
    up: Points
    shoulder_width: float


def torso_of(pose: Pose) -> Torso:
    left, right = pose[LEFT_SHOULDER].astype(float), pose[RIGHT_SHOULDER].astype(float)
    hips = (pose[LEFT_HIP].astype(float) + pose[RIGHT_HIP].astype(float)) / 2
    middle = (left + right) / 2
    up = (middle - hips) / max(1e-6, float(np.linalg.norm(middle - hips)))
    across = left - right
    # a body seen from the side still has a chest: never narrower than a third of its height
    width = max(float(np.linalg.norm(across)), 0.35 * float(np.linalg.norm(middle - hips)))
    return Torso(middle, across / max(1e-6, float(np.linalg.norm(across))), up, width)


@dataclass(frozen=True)
class Piece:
    """One piece of a garment: a clear picture of it, and where its points go.  source, target: (n, 2) in
    pixels. stiffness: how much it would rather miss its places than bend; from 1 on it hardly bends at
    all."""

    picture: Image.Image
    source: Points
    target: Points
    stiffness: float


def drape(garment: Garment, pose: Pose, alpha: Plane, cut: Cut) -> list[Piece]:
    """The pieces with their places, the lower ones first: a body, then a sleeve over each of its sides.
    Each piece bends by itself; in one piece a lifted arm would drag the chest along.  alpha: where the person
    is."""
    torso = torso_of(pose)
    # the garment's left side, as seen, hangs on the person's right
    halves = (_Half("left", RIGHT_ARM, -torso.across), _Half("right", LEFT_ARM, torso.across))
    places = {"collar": torso.middle + torso.up * torso.shoulder_width * 0.20}
    for half in halves:
        places |= _side_seam(half, garment, pose, torso, alpha, cut)
    places["hem"] = (places["left hem"] + places["right hem"]) / 2
    pieces = [_piece(garment.picture_of("body"), garment.points, places, BODY_STIFFNESS)]
    for half in halves:
        if f"{half.side} cuff" in garment.points:
            sleeve, ends = _sleeve(half, garment, pose, torso, alpha, cut, places)
            stiffness = LONG_SLEEVE_STIFFNESS if garment.long_sleeves else SHORT_SLEEVE_STIFFNESS
            pieces.append(_piece(garment.picture_of(half.side), sleeve, ends, stiffness))
    return pieces


Places = Mapping[str, Points | tuple[float, float]]


def _piece(picture: Image.Image, source: Places, target: Places, stiffness: float) -> Piece:
    names = [name for name in source if name in target]
    return Piece(
        picture, np.array([source[n] for n in names]), np.array([target[n] for n in names]), stiffness
    )


@dataclass(frozen=True)
class _Half:
    """side: of the garment, as seen.  arm: of the person.  outward: from the body's middle to this side."""

    side: str
    arm: Arm
    outward: Points


def _side_seam(
    half: _Half, garment: Garment, pose: Pose, torso: Torso, alpha: Plane, cut: Cut
) -> dict[str, Points]:
    """Shoulder, armpit, waist and hem of one half."""
    width = torso.shoulder_width
    joint, _, _, pelvis = (pose[landmark].astype(float) for landmark in half.arm)
    aside = _to_outline(alpha, joint, half.outward, usual=0.12 * width, most=0.30 * width) * cut.ease
    above = _to_outline(alpha, joint, torso.up, usual=0.07 * width, most=0.16 * width)
    seam = joint + half.outward * min(aside * 0.8, 0.16 * width) + torso.up * above
    hang = joint + (pelvis - joint) * _hem_share(garment, pose, torso) * cut.length
    hem = (
        hang
        + half.outward
        * _to_outline(alpha, hang, half.outward, usual=0.18 * width, most=0.30 * width)
        * cut.ease
    )
    places = {f"{half.side} shoulder": seam, f"{half.side} hem": hem}
    for name in ("armpit", "waist"):  # the side seam keeps the garment's own proportions
        places[f"{half.side} {name}"] = seam + (hem - seam) * _share_down(garment, half.side, name)
    return places


def _sleeve(
    half: _Half, garment: Garment, pose: Pose, torso: Torso, alpha: Plane, cut: Cut, places: dict[str, Points]
) -> tuple[dict[str, Points], dict[str, Points]]:
    """(points of the sleeve, their places): its two ends, and for a long one its elbow."""
    source = {
        name: np.array(garment.points[f"{half.side} {name}"])
        for name in ("shoulder", "armpit", "cuff", "underarm")
    }
    target = {name: places[f"{half.side} {name}"] for name in ("shoulder", "armpit")}
    joint, elbow, wrist, _ = (pose[landmark].astype(float) for landmark in half.arm)
    scale = float(np.linalg.norm(places[f"{half.side} hem"] - target["shoulder"])) / _side_length(
        garment, half.side
    )
    wide = float(np.linalg.norm(source["cuff"] - source["underarm"])) * scale
    length = float(np.linalg.norm(source["cuff"] - source["shoulder"])) * scale
    arm = max(1.0, float(np.linalg.norm(elbow - joint) + np.linalg.norm(wrist - elbow)))
    arms = {"cuff": min(max(length / arm, 0.30), 0.55) * cut.sleeve}
    if garment.long_sleeves:
        arms = {"cuff": min(0.96 * cut.sleeve, 1.0), "elbow": 0.5}
        source["elbow"] = (source["shoulder"] + source["cuff"]) / 2
        source["inner elbow"] = (source["armpit"] + source["underarm"]) / 2
    for name, share in arms.items():
        held, along = _along_arm(joint, elbow, wrist, share)
        outside = np.array([along[1], -along[0]])
        outside = outside if outside @ half.outward > 0 else -outside
        thick = _to_outline(
            alpha, held, outside, usual=0.13 * torso.shoulder_width, most=0.30 * torso.shoulder_width
        )
        inside = min(max(wide - thick, 0.10 * torso.shoulder_width), 0.20 * torso.shoulder_width)
        target[name] = held + outside * thick * 1.06
        target["underarm" if name == "cuff" else "inner elbow"] = held - outside * inside
    # the armhole is the garment's, but never so deep that it lies below the sleeve's own end
    hole, reach = (
        target["armpit"] - target["shoulder"],
        float(np.linalg.norm(target["underarm"] - target["shoulder"])),
    )
    target["armpit"] = target["shoulder"] + hole * min(
        1.0, 0.75 * reach / max(1.0, float(np.linalg.norm(hole)))
    )
    return source, target


def _side_length(garment: Garment, side: str) -> float:
    return max(1.0, garment.points[f"{side} hem"][1] - garment.points[f"{side} shoulder"][1])


def _share_down(garment: Garment, side: str, name: str) -> float:
    """How far down the side seam a point lies: shoulder 0, hem 1."""
    return (garment.points[f"{side} {name}"][1] - garment.points[f"{side} shoulder"][1]) / _side_length(
        garment, side
    )


def _to_outline(alpha: Plane, start: Points, direction: Points, *, usual: float, most: float) -> float:
    """How far the person reaches from `start`; `usual` where no outline comes within `most`, as before a
    folded arm."""
    height, width = alpha.shape
    for far in np.arange(usual * 0.5, most, 1.0):
        x, y = start + direction * far
        if not (0 <= x < width and 0 <= y < height):
            return usual
        if alpha[int(y), int(x)] < 0.5:
            return float(far)
    return usual


def _hem_share(garment: Garment, pose: Pose, torso: Torso) -> float:
    """How far below the shoulders the hem hangs, hips = 1: the garment keeps its proportions within what
    looks worn."""
    points = garment.points
    wide = points["right armpit"][0] - points["left armpit"][0]
    tall = points["hem"][1] - min(points["left shoulder"][1], points["right shoulder"][1])
    hips = (pose[LEFT_HIP].astype(float) + pose[RIGHT_HIP].astype(float)) / 2
    body = max(1e-6, float(np.linalg.norm(torso.middle - hips)))
    natural = tall / max(1.0, wide) * torso.shoulder_width * 1.15 / body
    return min(max(natural, 0.95), 1.5)


def _along_arm(shoulder: Points, elbow: Points, wrist: Points, share: float) -> tuple[Points, Points]:
    """The point at a share of the way shoulder → elbow → wrist, and the arm's direction there."""
    upper, lower = float(np.linalg.norm(elbow - shoulder)), float(np.linalg.norm(wrist - elbow))
    way = share * (upper + lower)
    if way <= upper or lower < 1:
        along = (elbow - shoulder) / max(upper, 1e-6)
        return shoulder + along * way, along
    along = (wrist - elbow) / lower
    return elbow + along * min(lower, way - upper), along
