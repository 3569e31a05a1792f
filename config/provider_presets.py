"""Presets: settings of well-known AI services, as TOML beside this file.  A user's settings override them.

Tables are merged name by name.  Lists, values and a request's `body` replace the preset's as a whole: half of one
model's input is useless for another model.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "presets"
_WHOLE = "body"


def preset_names() -> list[str]:
    """The names of all presets, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def over_preset(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A provider's settings merged over a preset's.  Raises ValueError, a sentence, for an unknown one."""
    names = preset_names()
    if name not in names:
        raise ValueError(f"PRESET is {name!r}, but may be one of {', '.join(names)}.")
    return _over(_read(name), given)


@functools.cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        beneath = merged.get(key)
        tables = isinstance(beneath, dict) and isinstance(value, dict) and key != _WHOLE
        merged[key] = _over(beneath, value) if tables else value  # type: ignore[arg-type]
    return merged
