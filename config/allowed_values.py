"""The values that a setting may have, in words, made from the type in its model."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Field, TypeAdapter


def type_at(root: Any, where: Sequence[str]) -> Any:
    """The type of the value at this place of a table, at any depth; None where there is none."""
    here: Any = root
    for part in where:
        here = _inside(here, part)
    return here


def _inside(above: Any, part: str) -> Any:
    """The type of a member of a table, or of an entry of a list."""
    above = bare(above)
    if isinstance(above, type) and issubclass(above, BaseModel):
        field = above.model_fields.get(part)
        if field is None:
            return None
        said = [Field(description=field.description)] if field.description else []
        more = [*field.metadata, *said]
        return Annotated[(field.annotation, *more)] if more else field.annotation
    inner = get_args(above)
    match get_origin(above):
        case builtins.dict:
            return inner[1]
        case builtins.list:
            return inner[0]
        case builtins.tuple if part.isdigit() and int(part) < len(inner):
            return inner[int(part)]
    return None


def bare(annotated: Any) -> Any:
    """The type without its bounds, and without None where None is allowed too."""
    if get_origin(annotated) is Annotated:
        return bare(get_args(annotated)[0])
    if get_origin(annotated) in (Union, UnionType):
        return bare(next(each for each in get_args(annotated) if each is not NoneType))
    return annotated


def what_may_be_at(root: Any, where: Sequence[str]) -> str:
    """The values that may stand at this place of a table, in words."""
    found = type_at(root, where)
    if found is None or bare(found) is Any:
        return "a table"
    return words_of(found)


def words_of(type_: Any) -> str:
    """The values of this type, in words: the description of the type if it has one, else its bounds or pattern."""
    return _in_words(TypeAdapter(type_).json_schema())


def _in_words(schema: Mapping[str, Any]) -> str:
    if "description" in schema and schema.get("type") != "object" and "$ref" not in schema:
        return str(schema["description"])
    if "anyOf" in schema:
        return _in_words(next(each for each in schema["anyOf"] if each.get("type") != "null"))
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    kind = schema.get("type", "object" if "$ref" in schema else None)
    if kind == "boolean":
        return "true or false"
    if kind in ("integer", "number"):
        noun = "a whole number" if kind == "integer" else "a number"
        low = f" from {schema['minimum']:g}" if "minimum" in schema else ""
        low = f" above {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else low
        high = f" up to {schema['maximum']:.0f}" if "maximum" in schema else ""
        return noun + low + high
    if kind == "array":
        few, most = schema.get("minItems"), schema.get("maxItems")
        return "a list" + (
            f" of {few} values" if few and few == most else " that is not empty" if few else ""
        )
    if kind == "object":
        return "a table"
    few, most = schema.get("minLength", 0), schema.get("maxLength")
    length = f" of {few} to {most} characters" if most else ""
    return "text" + length + (f" that matches {schema['pattern']}" if "pattern" in schema else "")
