"""The light of the photo on a new cloth: its colour, its strength, the body's roundness and the old clothes' folds."""

from __future__ import annotations

import numpy as np

from actors.providers.studio.vision.planes import Plane, blur, luminance, resized, smoothstep

SMALL = 256  # the long side of the copy on which the light is judged
BRIGHTEST = 95  # percentile of a photo's lightness that a white cloth in it would about have
TRUST = 0.6  # in the colour of the brightest places: some of it is what they are painted with


def light_of(colours: Plane, alpha: Plane) -> Plane:
    """The colour that a white cloth has in a photo, (3,); no channel above 1.  colours: (h, w, 3)."""
    step = max(1, max(alpha.shape) // SMALL)
    seen = colours[::step, ::step].reshape(-1, 3)
    light = luminance(seen)
    bright = seen[light >= np.percentile(light, BRIGHTEST)]
    level = float(np.clip(np.percentile(light, BRIGHTEST) / 0.9, 0.6, 1.0))
    colour = np.median(bright, 0) / max(1e-3, float(luminance(np.median(bright, 0))))
    tint = 1 + TRUST * (colour.clip(0.7, 1.3) - 1)
    white: Plane = np.minimum(level * tint, 1.0).astype(np.float32)
    return white


def shading_of(colours: Plane, alpha: Plane) -> Plane:
    """A factor for any cloth, (h, w): the folds of the old clothes, weakly, and the body's roundness."""
    height, width = alpha.shape
    step = max(1, width // 448)
    small_alpha = resized(alpha, width // step, height // step)
    light = luminance(resized(colours, width // step, height // step))
    wide = light.shape[1]
    fine, middling, broad = blur(light, wide / 180), blur(light, wide / 60), blur(light, wide / 14)
    # what is small and strong is a badge, a strap or a print, no fold: it is held back
    folds = np.tanh(np.log((fine + 0.08) / (middling + 0.08)) * 0.8) * 0.10
    folds = folds + np.tanh(np.log((middling + 0.10) / (broad + 0.10)) * 0.7) * 0.20
    roundness = 0.70 + 0.30 * smoothstep(0.45, 1.0, blur(small_alpha, wide / 22))
    shade: Plane = resized(((1 + folds) * roundness).astype(np.float32), width, height)
    return shade
