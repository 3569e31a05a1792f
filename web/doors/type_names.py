"""The names of a type at a door: `darkroom/<type>`, and the one that its `doors` declare."""

from __future__ import annotations

from config.settings import Settings
from config.task_type import OWN_NAMES
from web.http.problems import Problem


def type_named(settings: Settings, door: str, name: str) -> str:
    """The type that this name stands for.  Raises a Problem, 404."""
    for type_, task_type in settings.tasks.items():
        if name in (OWN_NAMES + type_, task_type.doors.names.get(door)):
            return type_
    known = ", ".join(names_at(settings, door))
    raise Problem(404, f"There is no model '{name[:100]}'; there are {known}.", kind="model_not_found")


def name_of(settings: Settings, door: str, type_: str) -> str:
    """The name that a type is shown under; a type that is not declared any more keeps its own."""
    task_type = settings.tasks.get(type_)
    declared = task_type.doors.names.get(door) if task_type is not None else None
    return declared or OWN_NAMES + type_


def names_at(settings: Settings, door: str) -> list[str]:
    """Every name, in the order in which types are declared."""
    return [name_of(settings, door, type_) for type_ in settings.tasks]
