"""Photography: the person of one photo, or the group, before a scene, `count` times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from actors.providers.studio.orders.delivery import Delivered, deliver
from actors.providers.studio.orders.order import Order
from actors.providers.studio.orders.originals import on_white, read_picture
from actors.providers.studio.photography.backdrops import Backdrop, backdrop
from actors.providers.studio.photography.compose import compose
from actors.providers.studio.photography.framing import Frame, frame_for, group_box
from actors.providers.studio.vision.crops import Box
from actors.providers.studio.vision.matte import Cutout, cut_out
from actors.providers.studio.vision.people import find_people
from actors.providers.studio.vision.person import Person, subjects, unsure_subjects
from actors.providers.studio.vision.planes import resized, to_array, to_picture
from actors.providers.studio.vision.segmentation import person_mask

Progress = Callable[[int, str], None]
BACKDROP, GRAIN = 0, 1  # what chance decides


def photograph(order: Order, progress: Progress) -> Iterator[Delivered]:
    """Make the order's pictures one by one.  Raises ImageUnusable, NoPersonFound before the first."""
    progress(2, "reading the photo")
    photo = on_white(read_picture(order.person, size=order.size, which="first"))
    progress(8, "finding the person")
    people = find_people(photo)
    mask = person_mask(photo, subjects(people), unsure_subjects(people))
    progress(15, "cutting out the person")
    person = cut_out(to_array(photo), mask)
    hold = _group_of(people, person)
    share = 75 / len(order.pictures)
    for done, n in enumerate(order.pictures):
        begun = 24 + share * done
        progress(int(begun), "painting the scene")
        frame, scene = scene_of(person, order, n, hold)
        progress(int(begun + share * 0.4), "setting the light")
        picture = portrait(person, frame, scene, order, n)
        progress(int(begun + share * 0.85), "developing the picture")
        yield deliver(picture, order.out, n)


def _group_of(people: Sequence[Person], cutout: Cutout) -> Box | None:
    """What every frame must hold, if there is more than one person."""
    if len(people) == 1:
        return None
    height, width = cutout.alpha.shape
    shown = [person for person in people if not person.is_sure] + subjects(people)
    return group_box(cutout.alpha, [person.upper_box(width, height) for person in shown])


def scene_of(person: Cutout, order: Order, n: int, hold: Box | None = None) -> tuple[Frame, Backdrop]:
    """The frame of picture n and, at the size of the result, what stands behind.  hold: what the frame must hold."""
    frame = frame_for(n, person.alpha, hold)
    return frame, backdrop(
        order.scene, *frame.scaled_to(order.size), _chance(order, n, BACKDROP), order.seed + n
    )


def portrait(person: Cutout, frame: Frame, scene: Backdrop, order: Order, n: int) -> Image.Image:
    """Picture n: the person before the scene."""
    size = frame.scaled_to(order.size)
    framed = Cutout(
        resized(frame.of(person.colours), *size, Image.Resampling.BICUBIC).clip(0, 1),
        resized(frame.of(person.alpha), *size).clip(0, 1),
    )
    return to_picture(compose(framed, scene, _chance(order, n, GRAIN)))


def _chance(order: Order, n: int, purpose: int) -> np.random.Generator:
    """From the seed and n alone, so that picture n does not depend on the others."""
    return np.random.default_rng((order.seed, n, purpose))
