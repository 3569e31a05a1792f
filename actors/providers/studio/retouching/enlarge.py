"""Enlarging: a picture 2 or 4 times as large, sharper than interpolation makes it and without halos.

Lanczos interpolation is only the start.  The result made small again must be the picture that was given, so the
difference is enlarged and added, a few times (iterative back-projection: Irani and Peleg 1991, "Improving resolution
by image registration").  Then fine contrast is raised.  No pixel may leave the range of the given pixels around it:
this keeps out the halos that both steps would draw along edges.

A photo that was made small comes back nearer to its original than by Lanczos: by 0.4 to 1.7 dB if it was made small as
usual (bicubic), never farther (tests/providers/studio/test_studio_retouching.py).  Nothing is invented: a face of 20
pixels gets no other features.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from actors.providers.studio.vision.planes import Plane, blur, resized, to_array

ROUNDS = 3
CONTRAST = 0.45
STRIP_PIXELS = 3_000_000  # of the result at once; a whole picture of 40 megapixels would need gigabytes
MARGIN_ROWS = 16  # of the given picture: more than any step looks around a pixel


def enlarge(picture: Image.Image, factor: int) -> Image.Image:
    """The picture, `factor` times as wide and as high.  picture: RGB or RGBA."""
    width, height = picture.size
    large = Image.new(picture.mode, (width * factor, height * factor))
    for top, bottom in _strips(height, max(MARGIN_ROWS, STRIP_PIXELS // (width * factor**2))):
        first, last = max(0, top - MARGIN_ROWS), min(height, bottom + MARGIN_ROWS)
        strip = _enlarged(_premultiplied(to_array(picture.crop((0, first, width, last)))), factor)
        kept = strip[(top - first) * factor : (bottom - first) * factor]
        pixels = (_straight(kept).clip(0, 1) * 255 + 0.5).astype(np.uint8)
        large.paste(Image.fromarray(pixels, picture.mode), (0, top * factor))
    return large


def _strips(height: int, rows: int) -> Iterator[tuple[int, int]]:
    for top in range(0, height, rows):
        yield top, min(height, top + rows)


def _enlarged(small: Plane, factor: int) -> Plane:
    height, width = small.shape[:2]
    large_size = width * factor, height * factor
    large = resized(small, *large_size, Image.Resampling.LANCZOS)
    for _ in range(ROUNDS):
        missing = small - resized(large, width, height, Image.Resampling.BICUBIC)
        large = large + resized(missing, *large_size, Image.Resampling.BICUBIC)
    large = large + CONTRAST * (large - blur(large, 0.5 * factor))
    lowest, highest = (resized(edge, *large_size) for edge in _range_around(small))
    bounded: Plane = np.clip(large, lowest, highest)
    return bounded


def _range_around(small: Plane) -> tuple[Plane, Plane]:
    """The least and the greatest value of each pixel and its eight neighbours."""
    height, width = small.shape[:2]
    padded = np.pad(small, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.minimum.reduce(around), np.maximum.reduce(around)


def _premultiplied(pixels: Plane) -> Plane:
    """Colours weighted by how opaque they are: else the unseen colour beside a cut-out would bleed into its edge."""
    if pixels.shape[2] == 3:
        return pixels
    return np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], -1)


def _straight(pixels: Plane) -> Plane:
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:]
    seen = np.where(alpha > 0.5 / 255, pixels[..., :3] / np.maximum(alpha, 1e-3), 0)
    return np.concatenate([seen, alpha], -1)
