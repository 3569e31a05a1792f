"""Types as Replicate's models: `owner/name`, each with one version.  Pure.

A version's id is the type's name, or what the type's `doors.replicate` names behind its colon: an order by version says
nothing else of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from config.settings import Settings
from config.task_type import OWN_NAMES, TaskType
from web.http.problems import Problem

NEVER = "1970-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Model:
    """A type as it is known here.  name: `owner/name`."""

    type: str
    name: str
    version: str


def model_of(settings: Settings, type_: str) -> Model:
    """The model that a type is; one that is not declared any more keeps its own name."""
    task_type = settings.tasks.get(type_)
    name, _, version = ((task_type.doors.replicate if task_type else None) or OWN_NAMES + type_).partition(
        ":"
    )
    return Model(type_, name, version or type_)


def model_named(settings: Settings, name: str, version: str | None = None) -> Model:
    """The model of this name.  Raises a Problem, 404; 422 for a version that it does not have."""
    for type_ in settings.tasks:
        found = model_of(settings, type_)
        if name in (found.name, OWN_NAMES + type_):
            if version not in (None, found.version, type_):
                raise Problem(
                    404,
                    f"The model {found.name} has the version {found.version} alone.",
                    kind="version_not_found",
                )
            return Model(type_, name, found.version)
    known = ", ".join(model_of(settings, type_).name for type_ in settings.tasks)
    raise Problem(404, f"There is no model '{name[:100]}'; there are {known}.", kind="model_not_found")


def model_by_version(settings: Settings, version: str) -> Model:
    """The model whose version this is: the id alone, or behind `owner/name:`.  Raises a Problem, 404 or 422."""
    name, _, its_version = version.partition(":")
    if "/" in name:
        return model_named(settings, name, its_version or None)
    for type_ in settings.tasks:
        if version in (model_of(settings, type_).version, type_):
            return model_of(settings, type_)
    raise Problem(
        422,
        f"There is no version '{version[:100]}'; GET /replicate/v1/models/<owner>/<name> tells the one of a model.",
        kind="version_not_found",
    )


def shown_version(settings: Settings, model: Model) -> dict[str, Any]:
    """A version with the schema of its input."""
    task_type = settings.tasks[model.type]
    schemas = {
        "Input": {"type": "object", "title": "Input", "properties": _inputs(task_type)},
        "Output": {"type": "array", "items": {"type": "string", "format": "uri"}, "title": "Output"},
    }
    return {
        "id": model.version,
        "created_at": NEVER,
        "cog_version": "0",
        "openapi_schema": {"openapi": "3.1.0", "components": {"schemas": schemas}},
    }


def shown_model(settings: Settings, model: Model) -> dict[str, Any]:
    """A model with its version."""
    owner, _, name = model.name.partition("/")
    task_type = settings.tasks[model.type]
    return {
        "url": f"/replicate/v1/models/{model.name}",
        "owner": owner,
        "name": name,
        "description": task_type.about.get("en") or task_type.title.get("en"),
        "visibility": "private",
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": shown_version(settings, model),
    }


def _inputs(task_type: TaskType) -> dict[str, Any]:
    fewest, most = task_type.count
    usual: dict[str, Any] = {
        "prompt": {"type": "string"},
        "num_outputs": {"type": "integer", "minimum": fewest, "maximum": most},
    }
    if task_type.inputs.images[1]:
        usual["image"] = {"type": "array", "items": {"type": "string", "format": "uri"}}
    declared = task_type.parameters.get("properties")
    return {**usual, **(declared if isinstance(declared, dict) else {})}
