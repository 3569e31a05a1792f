"""Putting a cut-out before a backdrop so that it seems to have been there: tint, key light, rim light, light
wrap, shadow."""

from __future__ import annotations

import numpy as np

from actors.providers.studio.photography.backdrops import Backdrop, Chance, Light
from actors.providers.studio.vision.matte import Cutout
from actors.providers.studio.vision.planes import Plane, blur, grid, luminance


def compose(person: Cutout, scene: Backdrop, chance: Chance) -> Plane:
    """One picture.  person and scene have the same shape."""
    long_side = max(person.alpha.shape)
    near, far = blur(person.alpha, long_side / 130), blur(person.alpha, long_side / 24)
    lit = _relit(person.colours, scene, far)
    lit = lit + _rim(near, far, scene.light)[..., None] * np.array(scene.light.rim_colour, np.float32) * (
        0.35 + lit
    )
    lit = _wrapped(lit, scene, near, long_side)
    behind = (
        scene.colours
        * (1 - scene.light.shadow * _cast_shadow(person.alpha, scene.light, long_side))[..., None]
    )
    a = person.alpha[..., None]
    return _developed(lit * a + behind * (1 - a), chance)


def _relit(colours: Plane, scene: Backdrop, far: Plane) -> Plane:
    """The person under the scene's light: its tint, brighter towards the key light, shadows filled with the
    place's colour."""
    light = scene.light
    u, _ = grid(colours.shape[1], colours.shape[0])
    weight = far.sum(0)
    middle = float((u[0] * weight).sum() / max(float(weight.sum()), 1e-6))
    towards = np.tanh((u - middle) * light.side * 3.2)
    gain = light.exposure * (1 + light.key * towards)
    lit = colours * np.array(light.tint, np.float32) * gain[..., None]
    place = scene.colours.mean((0, 1))
    dark = (1 - luminance(colours).clip(0, 1))[..., None] ** 2
    filled: Plane = lit + (place - lit * 0.6) * light.ambient * dark
    return filled


def _rim(near: Plane, far: Plane, light: Light) -> Plane:
    """How strongly light from behind grazes each pixel: a thin band inside the outline, on the light's side
    and on top."""
    fall_y, fall_x = np.gradient(-far)
    steepness = np.sqrt(fall_x**2 + fall_y**2) + 1e-6
    # the outline's outward normal · the direction of the light
    facing = (fall_x * light.side * 0.85 - fall_y * 0.45) / steepness
    band = (4 * near * (1 - near)).clip(0, 1) ** 1.5
    graze: Plane = band * facing.clip(0, 1) * light.rim
    return graze


def _wrapped(lit: Plane, scene: Backdrop, near: Plane, long_side: int) -> Plane:
    """Bright surroundings spill over the outline, as they do in a lens."""
    amount = ((1 - near) * scene.light.wrap * 1.6).clip(0, 0.6)[..., None]
    wrapped: Plane = lit * (1 - amount) + blur(scene.colours, long_side / 40) * amount
    return wrapped


def _cast_shadow(alpha: Plane, light: Light, long_side: int) -> Plane:
    """The person's soft shadow on the wall, away from the key light."""
    height, width = alpha.shape
    across, down = round(light.side * long_side * 0.02), -(long_side // 60)
    rows = (np.arange(height) + down).clip(0, height - 1)
    columns = (np.arange(width) + across).clip(0, width - 1)
    shadow: Plane = blur(alpha, long_side / 26)[rows][:, columns].clip(0, 1)
    return shadow


def _developed(colours: Plane, chance: Chance) -> Plane:
    """The last steps of a print: a little local contrast, shoulders for the highlights, vignette, grain
    against banding."""
    height, width = colours.shape[:2]
    u, v = grid(width, height)
    crisp = colours + 0.10 * (colours - blur(colours, max(height, width) / 340))
    shouldered = np.where(crisp > 0.8, 0.8 + 0.2 * np.tanh((crisp - 0.8) / 0.2), crisp)
    vignette = 1 - 0.38 * ((u - 0.5) ** 2 + (v - 0.5) ** 2)
    grain = chance.standard_normal((height, width), np.float32) * np.float32(0.007)
    finished: Plane = shouldered * vignette[..., None] + grain[..., None]
    return finished
