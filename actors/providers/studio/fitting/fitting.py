"""Fitting: the garment of one picture on the person of another, `count` times.

The body of the garment is stretched between the body's sides, its sleeves are laid along the arms, and both end at the
person's outline; the photo's light falls on them, and head, hair and hands stay before them.  It is recognisable, not
photographic: the old clothes still show where the new ones do not reach, and an arm that the pose model saw wrongly
wears its sleeve wrongly.  Of several people, the requested person wears it, or the largest; the others stay as they
are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from actors.providers.studio.fitting.body import Arm, Torso, arms_of, torso_of
from actors.providers.studio.fitting.draping import (
    Cut,
    Piece,
    arm_box,
    arm_plane,
    beside_plane,
    body_piece,
    sleeve_end,
    sleeve_piece,
)
from actors.providers.studio.fitting.garment import Garment, find_garment
from actors.providers.studio.fitting.in_front import in_front_of
from actors.providers.studio.fitting.light import light_of, shading_of
from actors.providers.studio.orders.delivery import Delivered, deliver
from actors.providers.studio.orders.faults import ImageUnusable
from actors.providers.studio.orders.order import Order
from actors.providers.studio.orders.originals import on_white, read_picture
from actors.providers.studio.photography.framing import frame_for
from actors.providers.studio.vision.crops import Box
from actors.providers.studio.vision.matte import cut_out
from actors.providers.studio.vision.people import find_people
from actors.providers.studio.vision.person import Person, nearest_to
from actors.providers.studio.vision.planes import Plane, blur, resized, smoothstep, to_array, to_picture
from actors.providers.studio.vision.segmentation import person_mask

Progress = Callable[[int, str], None]
# (ease, length, sleeve, warmth) of picture n: with its frame, they make it differ from its neighbours
WAYS = ((1.0, 1.0, 1.0, 0.0), (1.12, 1.05, 1.12, 0.04), (1.04, 0.94, 0.85, -0.04), (1.06, 0.98, 1.0, 0.07),
        (1.0, 1.06, 1.1, -0.07), (1.15, 0.93, 0.9, 0.02), (1.02, 1.1, 1.2, -0.02), (1.08, 1.0, 0.8, 0.09))  # fmt: skip

LONG = 0.8  # a sleeve that covers this share of an arm shows only the hand


@dataclass(frozen=True)
class Sitter:
    """The person of the first picture, as the models describe them.
    colours: (h, w, 3).  alpha: their own pixels, without those of others.  in_front: the pixels that nothing may cover.
    clothes: the pixels with the colour of their old clothes.
    shading: a factor for cloth.  light: the colour of a white cloth, (3,).
    hold: what every frame must show, if they are not alone."""

    colours: Plane
    alpha: Plane
    in_front: Plane
    clothes: Plane
    shading: Plane
    light: Plane
    torso: Torso
    arms: dict[str, Arm]
    hold: Box | None = None


def fit(order: Order, progress: Progress) -> Iterator[Delivered]:
    """Make the order's pictures one by one.  Raises ImageUnusable, NoPersonFound before the first."""
    assert order.garment is not None, "read_order refuses a fitting without a garment"
    progress(2, "reading the photos")
    photo = on_white(read_picture(order.person, size=order.size, which="first"))
    garment = find_garment(read_picture(order.garment, size=order.size, which="second"))
    progress(10, "finding the person")
    first, *others = _wearer_first(find_people(photo), order.wearer)
    mask = person_mask(photo, [first])
    progress(18, "cutting out the person")
    colours = to_array(photo)
    alpha = cut_out(colours, mask).alpha * nearest_to(first, others, *photo.size)
    hold = first.upper_box(*photo.size) if others else None
    torso = torso_of(first.pose, alpha)
    in_front = in_front_of(colours, alpha, first.pose, torso)
    shading, light = shading_of(colours, alpha), light_of(colours, alpha)
    arms = arms_of(first.pose, torso, alpha)
    sitter = Sitter(colours, alpha, in_front.kept, in_front.clothes, shading, light, torso, arms, hold)
    share = 72 / len(order.pictures)
    for done, n in enumerate(order.pictures):
        begun = int(27 + share * done)
        progress(begun, "fitting the garment")
        picture = fitted(sitter, garment, order, n)
        progress(begun + int(share * 0.85), "developing the picture")
        yield deliver(picture, order.out, n)


def _wearer_first(people: list[Person], wearer: int | None) -> list[Person]:
    """The person who wears the garment, and then the others.  people: the largest first.  Raises ImageUnusable."""
    if wearer is None:
        return people
    if wearer > len(people):
        number = "one person was" if len(people) == 1 else f"{len(people)} people were"
        raise ImageUnusable(f"Only {number} found in the first picture, so there is no person {wearer}.")
    chosen = sorted(people, key=lambda person: float(person.head[0]))[wearer - 1]
    return [chosen, *(person for person in people if person is not chosen)]


def fitted(sitter: Sitter, garment: Garment, order: Order, n: int) -> Image.Image:
    """Picture n, which does not depend on the others."""
    chance = np.random.default_rng((order.seed, n))
    ease, length, sleeve, warmth = WAYS[n % len(WAYS)]
    worn = worn_garment(sitter, garment, Cut(ease * float(chance.uniform(0.98, 1.02)), length, sleeve))
    graded = worn * (1 + np.array([warmth, 0, -warmth], np.float32))
    frame = frame_for(n, sitter.alpha, sitter.hold)
    return to_picture(resized(frame.of(graded), *frame.scaled_to(order.size), Image.Resampling.BICUBIC))


def worn_garment(sitter: Sitter, garment: Garment, cut: Cut) -> Plane:
    """The sitter's picture with the garment on."""
    height, width = sitter.alpha.shape
    # loose cloth stands a little away from the body, so the outline is taken a little wider
    free = smoothstep(0.15, 0.6, blur(sitter.alpha, width / 220)) * (1 - sitter.in_front)
    bare = _bare_arms(sitter, garment, cut)
    picture = sitter.colours
    pieces = [body_piece(garment, sitter.torso, cut, (width, height))]
    if garment.has_sleeves:
        pieces += [
            sleeve_piece(garment, side, arm, sitter.torso, cut, (width, height))
            for side, arm in sitter.arms.items()
        ]
    for piece in pieces:
        # pixels beyond the usual outline belong to the body or arm only if they have the colour of its old clothes
        cover = piece.cover * free * np.maximum(piece.usual, sitter.clothes)
        if piece.arm is None:
            cover = cover * (1 - bare)
        picture = _laid_on(picture, piece, cover, sitter, bare)
    return picture


def _laid_on(picture: Plane, piece: Piece, cover: Plane, sitter: Sitter, bare: Plane) -> Plane:
    """The picture with one more piece.  cover: where the piece is seen."""
    width = cover.shape[1]
    edge = blur(cover, width / 110)
    turned = 1 - 0.20 * (1 - smoothstep(0.5, 1.0, edge))  # cloth turns away from the light at its own edge
    under_arms = 1 - 0.30 * blur(bare, width / 90) if piece.arm is None else 1.0
    lit = piece.cloth * (sitter.shading * turned * under_arms)[..., None] * sitter.light
    # the shadow of the cloth's edge on what lies under it
    shadow = 0.34 * edge * sitter.alpha * (1 - sitter.in_front)
    a = cover[..., None]
    laid: Plane = picture * (1 - shadow)[..., None] * (1 - a) + lit * a
    return laid


def _bare_arms(sitter: Sitter, garment: Garment, cut: Cut) -> Plane:
    """Where arms come out of the garment and stay in front of it, (h, w)."""
    height, width = sitter.alpha.shape
    bare = np.zeros((height, width), np.float32)
    for side, arm in sitter.arms.items():
        end = sleeve_end(garment, side, cut) if garment.has_sleeves else 0.12
        if end < LONG:
            box = arm_box(arm, (width, height))
            whole, sleeve = (arm_plane(arm, box, (width, height), end=share) for share in (arm.shown, end))
            bare = np.maximum(bare, whole - sleeve)
            bare = np.maximum(bare, beside_plane(arm, sitter.torso, side, (width, height)))
    return bare
