"""The params of each type as JSON Schema: the common part of all types, narrowed by the type's declaration."""

from __future__ import annotations

from typing import Any, NamedTuple

from config.task_type import NO_INPUTS, TaskType

PARAMS = "TaskParams"
_REFERENCE = "#/components/schemas/{model}"


class TypeParams(NamedTuple):
    """The named schema, and the reference to it from an order of the type."""

    name: str
    schema: dict[str, Any]
    reference: dict[str, Any]


def model_name(type_: str, what: str) -> str:
    """`image_upscale` and `Order`: `ImageUpscaleOrder`."""
    return "".join(part.capitalize() for part in type_.split("_")) + what


def params_schema(type_: str, task_type: TaskType, anything: dict[str, Any]) -> TypeParams:
    """The params of a type.  anything: the schema for params of any type.

    Types with default inputs share one schema; their scenes are added beside the reference to it.
    """
    plain = TaskType()
    scenes = {"enum": task_type.scenes} if task_type.scenes else {}
    is_plain = all(
        getattr(task_type, each) == getattr(plain, each) for each in ("inputs", "count", "parameters")
    )
    name = PARAMS if is_plain else model_name(type_, "Params")
    reference: dict[str, Any] = {"$ref": _REFERENCE.format(model=name)}
    if is_plain:
        if scenes:
            reference = {"allOf": [reference, {"properties": {"sceneId": scenes}}]}
        return TypeParams(name, _narrowed(type_, plain, anything), reference)
    schema = _narrowed(type_, task_type, anything)
    if scenes:
        schema["properties"]["sceneId"] = {**schema["properties"]["sceneId"], **scenes}
    return TypeParams(
        name, {**schema, "description": f"What a task of type `{type_}` is made from."}, reference
    )


def _narrowed(type_: str, task_type: TaskType, anything: dict[str, Any]) -> dict[str, Any]:
    members = dict(anything["properties"])
    required = set(anything.get("required", ()))
    for kind, (fewest, most) in task_type.inputs.bounds.items():
        if (fewest, most) == NO_INPUTS:
            del members[kind]
            continue
        members[kind] = {**members[kind], "minItems": fewest, "maxItems": most}
        required |= {kind} if fewest else set()
    fewest, most = task_type.count
    members["count"] = {**members["count"], "minimum": fewest, "maximum": most, "default": fewest}
    if task_type.parameters:
        # It has its own id, so that its `$ref`s lead into it, not into this document.
        members["parameters"] = {"$id": f"urn:darkroom:parameters:{type_}", **task_type.parameters}
        if task_type.needs_parameters:
            required.add("parameters")
    return {**anything, "properties": members, "required": sorted(required)}
