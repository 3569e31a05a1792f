"""The options of a provider for its model's processes, checked once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from supervisor.core.errors import SettingFault


@dataclasses.dataclass(frozen=True)
class WarmOptions:
    """processes: children in each worker process. idle_seconds: an idle child ends after this time, 0 for never.

    memory_mib: a child above this is replaced after a job, and above twice this killed within the job; 0 for no bound.
    load_seconds: for `load`.
    """

    processes: int = 1
    idle_seconds: float = 600.0
    memory_mib: int = 0
    load_seconds: float = 300.0


def read_options(name: str, options: Mapping[str, Any]) -> WarmOptions:
    """The options of a provider that are not its model's own.  Raises SettingFault."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(WarmOptions):
        given = options.get(field.name, field.default)
        is_whole = isinstance(field.default, int)
        least = 1 if field.name == "processes" else 0
        try:
            value = int(str(given)) if is_whole else float(given)
            if not least <= value < 1e9 or (field.name == "load_seconds" and not value):
                raise ValueError
        except (TypeError, ValueError):
            noun = "a whole number" if is_whole else "a number of seconds"
            above = " above 0" if field.name in ("processes", "load_seconds") else ", 0 or more"
            raise SettingFault(
                f"PROVIDERS__{name}__OPTIONS__{field.name} is {given!r}, but may be {noun}{above}."
            ) from None
        found[field.name] = value
    return WarmOptions(**found)
