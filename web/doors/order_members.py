"""The members of another service's order, as params of a task.  Pure.

The type's `doors.map` says where a member goes; a member that the type's PARAMETERS declare goes to `parameters`.  Of
the others, the usual names of a prompt, a number of pictures and inputs are understood; the rest goes to `parameters`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from config.task_type import TaskType
from supervisor.core.task_params import INPUT_KINDS
from web.http.problems import unprocessable

USUAL = {
    "prompt": "prompt",
    "count": "count",
    "n": "count",
    "num_outputs": "count",
    "num_images": "count",
    "sceneId": "sceneId",
    "image": "images",
    "image_url": "images",
    "image_urls": "images",
    "input_image": "images",
    "image_input": "images",
    "images": "images",
    "video": "videos",
    "video_url": "videos",
    "videos": "videos",
    "audio": "audio",
    "audio_url": "audio",
    "file": "files",
    "file_url": "files",
    "files": "files",
}
_PARAMETERS = "parameters."


@dataclass(frozen=True)
class FormFile:
    """A file of a form.  sha256: of its bytes as they came."""

    content: BinaryIO
    name: str
    sha256: str


def params_of(members: Mapping[str, Any], task_type: TaskType, *, is_form: bool = False) -> dict[str, Any]:
    """The params that the members give; inputs are as they were given, perhaps a FormFile.  Raises a Problem, 422.

    is_form: values are text, and mean numbers where numbers are wanted.
    """
    declared = task_type.parameters.get("properties")
    declared = declared if isinstance(declared, dict) else {}
    led = task_type.doors.map
    order = _order_of(tuple(led))
    params: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for name in sorted(members, key=lambda each: (order.get(each, len(order)), each)):
        value, usual = members[name], USUAL.get(name)
        target = led.get(name) or (None if name in declared else usual) or _PARAMETERS + name
        if target.startswith(_PARAMETERS):
            if any(isinstance(each, FormFile) for each in (value if isinstance(value, list) else [value])):
                raise unprocessable(f"/{name}", f"This type takes no file '{name}'.")
            inner = target.removeprefix(_PARAMETERS)
            parameters[inner] = _typed(value, declared.get(inner)) if is_form else value
        elif value is None:
            continue  # SDKs send null for what was left out
        elif target in INPUT_KINDS:
            params.setdefault(target, []).extend(_entries(name, value))
        elif target in params:
            raise unprocessable(f"/{name}", f"{name} says again what another member has said.")
        else:
            params[target] = _typed(value, {"type": "integer"}) if is_form and target == "count" else value
    if parameters:
        params["parameters"] = parameters
    return params


@functools.lru_cache(maxsize=256)  # a type has one `map`
def _order_of(led: tuple[str, ...]) -> dict[str, int]:
    """{name: its place} of all names that mean something, the declared ones first."""
    return {name: n for n, name in enumerate((*led, *USUAL))}


def _entries(name: str, value: Any) -> list[Any]:
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if not isinstance(entry, str | FormFile):
            raise unprocessable(
                f"/{name}", f"{name} must be an address, a data: URI, or an upload's id, or a list of those."
            )
    return entries


def _typed(value: Any, schema: Any) -> Any:
    """A form's text as the number or boolean that the schema wants; unchanged if it is neither."""
    wanted = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(value, str):
        try:
            if wanted == "integer":
                return int(value)
            if wanted == "number":
                return float(value)
        except ValueError:
            return value
        if wanted == "boolean" and value in ("true", "false"):
            return value == "true"
    return value
