"""Where the people are: a soft mask from the portrait model, looked at twice, and judged by the pose model.

The model sees 256×256 pixels, whatever the picture's size.  A first look is at the whole picture in a square, its
shape kept.  A small person gets a second pass over a square of their own, which shows the outline several times finer.
Then clear cases are corrected: specks far from people are removed, unsure islands inside the outline are filled.

The model also gives masks of things, and of parts of people.  So the pose model decides at the end: a mask that lacks
the head or the torso of a main person is not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from actors.providers.studio.orders.faults import NoPersonFound
from actors.providers.studio.vision.crops import (
    Box,
    put_back,
    square_around,
    squares_for,
    taken,
    whole_square,
)
from actors.providers.studio.vision.nets import net
from actors.providers.studio.vision.people import find_people
from actors.providers.studio.vision.person import Person, has, subjects
from actors.providers.studio.vision.planes import Plane, resized, smoothstep, to_array
from actors.providers.studio.vision.regions import large_parts, reached

SIDE = 256
LARGEST_SHARE = 0.97
NEARLY_WHOLE = 0.8  # a square with this share of the whole picture shows no finer details


def person_mask(
    picture: Image.Image, people: Sequence[Person] | None = None, beside: Sequence[Person] = ()
) -> Plane:
    """How surely each pixel is person, shape of the picture, values in [0, 1].

    people: the persons that the mask must show; by default all subjects of the picture.  beside: further persons who
    are examined as closely, but whom the mask need not show.
    Raises NoPersonFound when the mask does not show `people`, or covers over 97 % of the picture."""
    shown = subjects(find_people(picture)) if people is None else people
    pixels = np.asarray(picture)
    height, width = pixels.shape[:2]
    square = whole_square(width, height)
    whole = _look(pixels, square)
    mask = whole.copy()
    bodies = [person.body_box(width, height) for person in (*shown, *beside)]
    seen = all(has(whole, person) for person in shown)
    looked_at = np.zeros(mask.shape, bool)
    for closer in squares_for(bodies, width, height):
        if _side(closer) ** 2 < NEARLY_WHOLE * _side(square) ** 2:
            _look_closer(pixels, closer, whole if seen else None, mask, looked_at)
    settled = _settled(mask, shown)
    for person in shown:
        if not has(settled, person):
            # one person alone, and only head and torso: the model was made for such pictures
            upper = square_around(person.upper_box(width, height), width, height)
            _look_closer(pixels, upper, None, mask, looked_at)
            settled = _settled(mask, shown)
    _judge(settled, shown)
    return settled


def _look(pixels: Plane, square: Box) -> Plane:
    """The model's mask for a square of the picture, cut to the part that is inside the picture.

    It is the mean of two masks, of the square and of its mirror image: a shape that only one of them shows is doubtful.
    """
    small = Image.fromarray(taken(pixels, square)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    seen = to_array(small)
    straight = net("selfie_segmentation")(seen)[0][0, ..., 0]
    mirrored = net("selfie_segmentation")(seen[:, ::-1])[0][0, ..., 0][:, ::-1]
    part, _ = put_back(
        resized((straight + mirrored) / 2, _side(square), _side(square)), square, *_size(pixels)
    )
    return part


def _look_closer(pixels: Plane, square: Box, whole: Plane | None, mask: Plane, looked_at: np.ndarray) -> None:
    """Write into the mask what is seen in a square of the picture.  looked_at: where that was done before.

    Where squares overlap, the one that shows a person counts: a face that one square cuts is whole in another.
    """
    closer = _look(pixels, square)
    left, top = max(0, square[0]), max(0, square[1])
    place = slice(top, top + closer.shape[0]), slice(left, left + closer.shape[1])
    if whole is None:
        mask[place] = np.maximum(mask[place], closer)
    else:
        # a part of the background, seen alone, may look like a person; so the mask of the whole picture must not be
        # zero there
        closer = closer * smoothstep(0.02, 0.2, whole[place])
        mask[place] = np.where(looked_at[place], np.maximum(mask[place], closer), closer)
    looked_at[place] = True


def _judge(mask: Plane, shown: Sequence[Person]) -> None:
    if not all(has(mask, person) for person in shown):
        raise NoPersonFound(
            "No person could be cut out of the first picture: head or shoulders can't be told from what is around them."
        )
    if float((mask > 0.5).mean()) > LARGEST_SHARE:
        raise NoPersonFound(
            "The person fills the whole first picture; some background must be seen around them."
        )


def _settled(mask: Plane, shown: Sequence[Person]) -> Plane:
    """The mask without specks apart from the people and without unsure holes inside the outline."""
    height, width = mask.shape
    small = resized(mask, SIDE // 2, SIDE // 2)
    person = small > 0.5
    apart = person & ~large_parts(person) & ~reached(_torsos(shown, width, height), person)
    around = np.zeros_like(person)
    # Not the bottom: a body usually runs out of the picture there.
    around[0, :] = around[:, 0] = around[:, -1] = True
    inside = ~reached(around & ~person, ~person)
    fill = resized(inside.astype(np.float32), width, height) * smoothstep(0.08, 0.4, mask)
    drop = resized(apart.astype(np.float32), width, height)
    settled: Plane = smoothstep(0.3, 0.85, np.maximum(mask, fill)) * (1 - drop)
    return settled


def _torsos(shown: Sequence[Person], width: int, height: int) -> np.ndarray:
    """Where heads and torsos are, on the small mask."""
    marks = np.zeros((SIDE // 2, SIDE // 2), bool)
    for person in shown:
        samples = np.concatenate([person.head_samples(), person.torso_samples()])
        x, y = np.floor(samples * [SIDE / 2 / width, SIDE / 2 / height]).astype(int).T
        inside = (x >= 0) & (x < SIDE // 2) & (y >= 0) & (y < SIDE // 2)
        marks[y[inside], x[inside]] = True
    return marks


def _side(square: Box) -> int:
    return square[2] - square[0]


def _size(pixels: Plane) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]
