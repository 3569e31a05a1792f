"""Where the person is: a soft mask from the portrait model, looked at twice.

The model sees 256×256 pixels whatever the picture's size.  A first pass over the whole picture finds the
person's box, a second over that box alone sees the outline several times finer.  Then what is certain is made
certain: specks far from the person go, unsure islands inside the outline are filled.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from actors.providers.studio.faults import NoPersonFound
from actors.providers.studio.nets import net
from actors.providers.studio.planes import Plane, resized, smoothstep, to_array
from actors.providers.studio.regions import large_parts, reached

SIDE = 256
SMALLEST_SHARE, LARGEST_SHARE = 0.02, 0.97
Box = tuple[int, int, int, int]


def person_mask(picture: Image.Image) -> Plane:
    """How surely each pixel is person, shape of the picture, values in [0, 1].
    Raises NoPersonFound when the mask covers under 2 % or over 97 % of the picture."""
    whole = _probability(picture)
    _check_share(whole)
    mask = resized(whole, *picture.size)
    box = _person_box(mask)
    if (box[2] - box[0]) * (box[3] - box[1]) < 0.8 * picture.width * picture.height:
        mask = _second_pass(picture, mask, box)
    mask = _settled(mask)
    _check_share(mask)
    return mask


def _probability(picture: Image.Image) -> Plane:
    """The model's answer for a picture and for its mirror image, averaged: what it sees only one way round is
    doubtful."""
    pixels = to_array(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    straight = net("selfie_segmentation")(pixels)[0][0, ..., 0]
    mirrored = net("selfie_segmentation")(pixels[:, ::-1])[0][0, ..., 0][:, ::-1]
    average: Plane = (straight + mirrored) / 2
    return average


def _check_share(mask: Plane) -> None:
    share = float((mask > 0.5).mean())
    if share < SMALLEST_SHARE:
        raise NoPersonFound("No person was found in the first picture.")
    if share > LARGEST_SHARE:
        raise NoPersonFound(
            "The person fills the whole first picture; some background must be seen around them."
        )


def _person_box(mask: Plane) -> Box:
    """Left, top, right, bottom around the mask with a margin, grown towards a square as far as the picture
    allows."""
    height, width = mask.shape
    rows, columns = np.flatnonzero((mask > 0.5).any(1)), np.flatnonzero((mask > 0.5).any(0))
    middle_x, middle_y = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
    side = 1.25 * max(columns[-1] - columns[0], rows[-1] - rows[0])
    left, right = max(0, round(middle_x - side / 2)), min(width, round(middle_x + side / 2))
    top, bottom = max(0, round(middle_y - side / 2)), min(height, round(middle_y + side / 2))
    return left, top, right, bottom


def _second_pass(picture: Image.Image, mask: Plane, box: Box) -> Plane:
    left, top, right, bottom = box
    closer = resized(_probability(picture.crop(box)), right - left, bottom - top)
    result = np.zeros_like(mask)  # beyond the margin nothing was person in the first pass
    # seen alone, a part of the background may look like a person: the first pass must agree at least a little
    result[top:bottom, left:right] = closer * smoothstep(0.02, 0.2, mask[top:bottom, left:right])
    return result


def _settled(mask: Plane) -> Plane:
    """The mask without specks apart from the person and without unsure holes inside the outline."""
    height, width = mask.shape
    small = resized(mask, SIDE // 2, SIDE // 2)
    person = small > 0.5
    apart = person & ~large_parts(person)
    around = np.zeros_like(person)
    around[0, :] = around[:, 0] = around[:, -1] = (
        True  # not the bottom: a body usually runs out of the picture there
    )
    inside = ~reached(around & ~person, ~person)
    fill = resized(inside.astype(np.float32), width, height) * smoothstep(0.08, 0.4, mask)
    drop = resized(apart.astype(np.float32), width, height)
    settled: Plane = smoothstep(0.3, 0.85, np.maximum(mask, fill)) * (1 - drop)
    return settled
