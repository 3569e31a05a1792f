"""Cutting out: the persons of a picture on a transparent ground, in the frame of the picture.

A picture without a person shows perhaps one thing on a plain background; then that is cut out.  A picture that is
transparent already keeps what is transparent.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from actors.providers.studio.orders.faults import NoPersonFound
from actors.providers.studio.orders.originals import on_white
from actors.providers.studio.vision.matte import cut_out as matted
from actors.providers.studio.vision.people import find_people
from actors.providers.studio.vision.person import subjects, unsure_subjects
from actors.providers.studio.vision.plain_background import is_a_subject, standing_out
from actors.providers.studio.vision.planes import Plane, to_array, to_picture
from actors.providers.studio.vision.segmentation import person_mask

NOTHING_FOUND = (
    "No person was found in the picture, and nothing that stands out from a plain background: there is nothing to cut "
    "out."
)
UNSEEN = 0.5 / 255


def cut_out(picture: Image.Image) -> Image.Image:
    """The picture's subject: RGBA, of the same size.  picture: RGB or RGBA.  Raises NoPersonFound if it has no
    subject."""
    seen = on_white(picture)
    mask = _person_mask(seen)
    if mask is None:
        if picture.mode == "RGBA" and is_a_subject(np.asarray(picture.getchannel("A")) > 127):
            return picture  # it is cut out
        mask = _thing_mask(seen)
    if mask is None:
        raise NoPersonFound(NOTHING_FOUND)
    cutout = matted(to_array(seen), mask)
    alpha = cutout.alpha
    if picture.mode == "RGBA":
        alpha = np.minimum(alpha, to_array(picture.getchannel("A")))
    # Fully transparent pixels have one colour: the file is smaller, and holds nothing of the old background.
    colours = np.where(alpha[..., None] > UNSEEN, cutout.colours, 0)
    clear = to_picture(colours)
    clear.putalpha(to_picture(alpha))
    return clear


def _person_mask(seen: Image.Image) -> Plane | None:
    try:
        people = find_people(seen)
        return person_mask(seen, subjects(people), unsure_subjects(people))
    except NoPersonFound:
        return None


def _thing_mask(seen: Image.Image) -> Plane | None:
    mask = standing_out(seen)
    return None if mask is None else to_array(mask)
