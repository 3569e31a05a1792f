"""Bending a picture: for each point of the result, the point of the picture that it comes from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from actors.providers.studio.vision.crops import Box

Points = NDArray[np.float64]  # (n, 2), x and y
CELL = 8  # pixels of the mesh: within a cell every map is as good as straight


def bent(
    picture: Image.Image, where: Callable[[Points], Points], box: Box, size: tuple[int, int]
) -> Image.Image:
    """A clear canvas of `size` with the picture (RGBA) bent into `box`.
    where: for points of the canvas, the points of the picture that are seen there; outside the picture is clear."""
    left, top, right, bottom = box
    across = np.arange(left, right + CELL, CELL)
    down = np.arange(top, bottom + CELL, CELL)
    corners = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2).astype(np.float64)
    # PIL clips nothing itself: what lies far outside is told as a point that is just as clear
    low, high = np.array([-4.0 * CELL, -4.0 * CELL]), np.array(picture.size) + 4.0 * CELL
    found = where(corners).clip(low, high).reshape(len(down), len(across), 2)
    quads = np.concatenate([found[:-1, :-1], found[1:, :-1], found[1:, 1:], found[:-1, 1:]], -1).tolist()
    mesh = [
        ((i * CELL, j * CELL, (i + 1) * CELL, (j + 1) * CELL), tuple(quad))
        for j, row in enumerate(quads)
        for i, quad in enumerate(row)
    ]
    premultiplied = picture.convert("RGBa")  # or the clear pixels' colour would bleed into the edge
    extent = (len(across) - 1) * CELL, (len(down) - 1) * CELL
    drawn = premultiplied.transform(extent, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    canvas = Image.new("RGBa", size)
    canvas.paste(drawn, (left, top))
    return canvas.convert("RGBA")
