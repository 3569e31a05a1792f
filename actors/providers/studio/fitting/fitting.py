"""Fitting: the garment of one picture on the person of another, `count` times.

The garment is bent onto the body, cut to the outline, shaded by the light on the old clothes and by the
body's roundness, and laid behind head and hands.  It is recognisable, not photographic: the old clothes still
show where the new ones do not reach.  Of several people the largest wears it; the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from actors.providers.studio.fitting.draping import Cut, Piece, drape, torso_of
from actors.providers.studio.fitting.garment import Garment, find_garment
from actors.providers.studio.fitting.warp import warp
from actors.providers.studio.orders.delivery import Delivered, deliver
from actors.providers.studio.orders.order import Order
from actors.providers.studio.orders.originals import on_white, read_picture
from actors.providers.studio.photography.framing import frame_for
from actors.providers.studio.vision.crops import Box
from actors.providers.studio.vision.matte import cut_out
from actors.providers.studio.vision.people import find_people
from actors.providers.studio.vision.person import nearest_to
from actors.providers.studio.vision.planes import (
    Plane,
    blur,
    luminance,
    resized,
    smoothstep,
    to_array,
    to_picture,
    to_segment,
)
from actors.providers.studio.vision.pose import (
    LEFT_EAR,
    LEFT_ELBOW,
    LEFT_INDEX,
    LEFT_WRIST,
    MOUTH_LEFT,
    MOUTH_RIGHT,
    NOSE,
    RIGHT_EAR,
    RIGHT_ELBOW,
    RIGHT_INDEX,
    RIGHT_WRIST,
    Pose,
)
from actors.providers.studio.vision.segmentation import person_mask

Progress = Callable[[int, str], None]
# (ease, length, sleeve, warmth): what makes picture n differ from its neighbours, besides its frame
WAYS = ((1.0, 1.0, 1.0, 0.0), (1.12, 1.05, 1.12, 0.04), (0.9, 0.94, 0.85, -0.04), (1.06, 0.98, 1.0, 0.07),
        (0.95, 1.06, 1.1, -0.07), (1.15, 0.93, 0.9, 0.02), (1.0, 1.1, 1.2, -0.02), (0.88, 1.0, 0.8, 0.09))  # fmt: skip


@dataclass(frozen=True)
class Sitter:
    """The person of the first picture and all that is known of them.
    colours: (h, w, 3).  alpha: where they are, without others.  in_front: where nothing may cover them.
    shading: a factor for cloth.  hold: what every frame must show, if they are not alone."""

    colours: Plane
    alpha: Plane
    in_front: Plane
    shading: Plane
    pose: Pose
    hold: Box | None = None


def fit(order: Order, progress: Progress) -> Iterator[Delivered]:
    """Make the order's pictures one by one.  Raises ImageUnusable, NoPersonFound before the first."""
    assert order.garment is not None, "read_order refuses a fitting without a garment"
    progress(2, "reading the photos")
    photo = on_white(read_picture(order.person, size=order.size, which="first"))
    garment = find_garment(read_picture(order.garment, size=order.size, which="second"))
    progress(10, "finding the person")
    first, *others = find_people(photo)
    mask = person_mask(photo, [first])
    progress(18, "cutting out the person")
    colours = to_array(photo)
    alpha = cut_out(colours, mask).alpha * nearest_to(first, others, *photo.size)
    hold = first.upper_box(*photo.size) if others else None
    sitter = Sitter(colours, alpha, _in_front(photo, first.pose), _shading(colours, alpha), first.pose, hold)
    share = 72 / len(order.pictures)
    for done, n in enumerate(order.pictures):
        begun = int(27 + share * done)
        progress(begun, "fitting the garment")
        picture = fitted(sitter, garment, order, n)
        progress(begun + int(share * 0.85), "developing the picture")
        yield deliver(picture, order.out, n)


def fitted(sitter: Sitter, garment: Garment, order: Order, n: int) -> Image.Image:
    """Picture n: the same whichever others are made."""
    chance = np.random.default_rng((order.seed, n))
    ease, length, sleeve, warmth = WAYS[n % len(WAYS)]
    worn = worn_garment(sitter, garment, Cut(ease * float(chance.uniform(0.98, 1.02)), length, sleeve))
    graded = worn * (1 + np.array([warmth, 0, -warmth], np.float32))
    frame = frame_for(n, sitter.alpha, sitter.hold)
    return to_picture(resized(frame.of(graded), *frame.scaled_to(order.size), Image.Resampling.BICUBIC))


def worn_garment(sitter: Sitter, garment: Garment, cut: Cut) -> Plane:
    """The sitter's picture with the garment on."""
    width = sitter.alpha.shape[1]
    # loose cloth stands a little away from the body, so the outline is taken a little wider
    free = smoothstep(0.15, 0.6, blur(sitter.alpha, width / 220)) * (1 - sitter.in_front)
    picture = sitter.colours
    for piece in drape(garment, sitter.pose, sitter.alpha, cut):
        cloth, cover = _laid_out(piece, sitter.alpha.shape)
        cover = cover * free
        a = cover[..., None]
        lit = cloth * (sitter.shading * _hem_shade(cover))[..., None]
        shadow = 0.34 * blur(cover, width / 100) * free  # of the cloth's edge, on what lies under it
        picture = picture * (1 - shadow)[..., None] * (1 - a) + lit * a
    return picture


def _laid_out(piece: Piece, shape: tuple[int, ...]) -> tuple[Plane, Plane]:
    """A piece at its place: colours (h, w, 3) and cover (h, w)."""
    scale = float(np.ptp(piece.target, 0).max() / max(1.0, np.ptp(piece.source, 0).max()))
    size = max(2, round(piece.picture.width * scale)), max(2, round(piece.picture.height * scale))
    # to its final scale first: the warp looks at single pixels and would break a fine pattern
    picture = piece.picture.resize(size, Image.Resampling.LANCZOS)
    laid = to_array(
        warp(picture, piece.source * scale, piece.target, (shape[1], shape[0]), stiffness=piece.stiffness)
    )
    return laid[..., :3], laid[..., 3]


def _shading(colours: Plane, alpha: Plane) -> Plane:
    """A factor for any cloth: the folds and light of the old clothes, weakly, and the body's roundness."""
    width = alpha.shape[1]
    light = luminance(colours)
    fine, broad = blur(light, width / 180), blur(light, width / 14)
    # old prints and straps look like deep folds: what is too strong for a fold is held back
    folds = np.tanh(np.log((fine + 0.08) / (broad + 0.08)) * 0.8) * 0.16
    roundness = 0.72 + 0.28 * smoothstep(0.45, 1.0, blur(alpha, width / 22))
    shade: Plane = (1 + folds) * roundness
    return shade


def _hem_shade(cover: Plane) -> Plane:
    """Cloth turns away from the light at its own edge."""
    return 1 - 0.22 * (1 - smoothstep(0.5, 1.0, blur(cover, cover.shape[1] / 130)))


# ── what stays in front of the garment ────────────────────────────────────────────────────────────────────────────────


def _in_front(photo: Image.Image, pose: Pose) -> Plane:
    """Head, bare neck, hands and bare forearms: 1 where the person must stay as they are."""
    torso = torso_of(pose)
    x, y = (
        np.arange(photo.width, dtype=np.float32)[None, :],
        np.arange(photo.height, dtype=np.float32)[:, None],
    )
    reach = torso.shoulder_width
    skin = _skin(photo)
    nose, mouth = pose[NOSE], (pose[MOUTH_LEFT] + pose[MOUTH_RIGHT]) / 2
    face = max(
        float(np.linalg.norm(pose[LEFT_EAR] - pose[RIGHT_EAR])),
        1.9 * float(np.linalg.norm(mouth - nose)),
        0.22 * reach,
    )
    chin = mouth - torso.up * face * 0.42
    above_chin = ((x - chin[0]) * torso.up[0] + (y - chin[1]) * torso.up[1]) > 0
    head = above_chin & (((x - nose[0]) ** 2 + (y - nose[1]) ** 2) < (1.5 * face) ** 2)
    neck = skin & (to_segment(x, y, nose, chin - torso.up * face * 0.35) < 0.55 * face)
    kept = head | neck
    for elbow, wrist, index in (
        (LEFT_ELBOW, LEFT_WRIST, LEFT_INDEX),
        (RIGHT_ELBOW, RIGHT_WRIST, RIGHT_INDEX),
    ):
        if pose.seen[wrist] > 0.5:
            tip = pose[wrist] + (pose[index] - pose[wrist]) * 1.8
            hand = to_segment(x, y, pose[wrist], tip) < 0.20 * reach
            forearm = to_segment(x, y, pose[elbow], pose[wrist]) < 0.14 * reach
            kept |= skin & (hand | forearm)
    return smoothstep(0.35, 0.65, blur(kept.astype(np.float32), photo.width / 400))


def _skin(photo: Image.Image) -> NDArray[np.bool_]:
    """Pixels of skin colour, of any shade: a range of chroma (Chai and Ngan 1999), wide enough for warm
    light."""
    _, blue, red = np.moveaxis(np.asarray(photo.convert("YCbCr"), np.float32), -1, 0)
    skin: NDArray[np.bool_] = (blue > 77) & (blue < 128) & (red > 134) & (red < 175)
    return skin
