"""Connected parts of a mask: what can be reached from where, by steps to the four sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
MOST_PARTS = 64  # a mask in more pieces than that is noise


def large_parts(person: Mask) -> Mask:
    """The parts of a mask, without those under a tenth of the largest."""
    left = person.copy()
    parts: list[Mask] = []
    while left.any() and len(parts) < MOST_PARTS:
        seed = np.zeros_like(left)
        seed.flat[np.argmax(left)] = True
        parts.append(reached(seed, left))
        left &= ~parts[-1]
    largest = max((part.sum() for part in parts), default=0)
    kept = [part for part in parts if part.sum() * 10 >= largest]
    return np.logical_or.reduce(kept) if kept else person


def reached(seed: Mask, within: Mask) -> Mask:
    """All of `within` that a walk can reach from the seed.  Meant for small masks: it takes a round for each step."""
    found = seed & within
    while True:
        wider = grown(found) & within
        if (wider == found).all():
            return found
        found = wider


def without_holes(mask: Mask) -> Mask:
    """The mask with everything filled that can't be reached from the picture's border.
    Looked for on cells of 4 × 4 pixels; a hole nearer to the outside than two cells may stay."""
    cell = 4
    height, width = mask.shape
    rows, columns = -(-height // cell), -(-width // cell)
    padded = np.zeros((rows * cell, columns * cell), bool)
    padded[:height, :width] = mask
    cells = padded.reshape(rows, cell, columns, cell).any((1, 3))
    free: Mask = np.logical_not(cells)
    border = np.ones_like(free)
    border[1:-1, 1:-1] = False
    outside = grown(reached(border & free, free))
    filled = np.repeat(np.repeat(~outside, cell, 0), cell, 1)[:height, :width]
    return mask | filled


def grown(mask: Mask) -> Mask:
    """The mask and its neighbours to the four sides."""
    wider = mask.copy()
    wider[1:] |= mask[:-1]
    wider[:-1] |= mask[1:]
    wider[:, 1:] |= mask[:, :-1]
    wider[:, :-1] |= mask[:, 1:]
    return wider
