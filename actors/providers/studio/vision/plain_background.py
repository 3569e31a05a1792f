"""What stands out from a plain background: a garment on a table, a product on paper."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from actors.providers.studio.vision.regions import without_holes

# Of 255, tried in turn: a white shirt on white needs the last, paper grain forbids it to others.
DIFFERENCES = (
    22,
    12,
    7,
)
SMALLEST_SHARE, LARGEST_SHARE = 0.04, 0.92


def standing_out(picture: Image.Image) -> Image.Image | None:
    """What differs from the border's colour, its holes filled; None if that is next to nothing or nearly
    everything.  picture: RGB."""
    pixels = np.asarray(picture, np.int16)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = np.median(border, 0)
    off = np.abs(border - background).max(-1)
    if float((off > 40).mean()) > 0.35:
        return None  # no plain background
    difference = np.abs(pixels - background).max(-1)
    for least in DIFFERENCES:
        clear = Image.fromarray(((difference > least) * 255).astype(np.uint8)).filter(
            ImageFilter.MedianFilter(5)
        )
        mask = without_holes(np.asarray(clear) > 127)
        if is_a_subject(mask):
            return Image.fromarray((mask * 255).astype(np.uint8))
    return None


def is_a_subject(mask: np.ndarray) -> bool:
    """Whether a mask shows something, and not all.  mask: (h, w), True where the subject is."""
    return SMALLEST_SHARE < float(mask.mean()) < LARGEST_SHARE
