"""What a request's member is when it is left out: told in words.  Pure.

JSON Schema has `default` for it.  Generators of clients read that in their own way: openapi-typescript makes the member
required, since something that has a default is always there, and openapi-python-client sends the default itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# Where a schema holds schemas: by name, in a list, or one.  What else it holds is data, in which `default` is a word.
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    "items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "contains", "propertyNames",
    "not", "if", "then", "else",
)  # fmt: skip


def told_in_words(schema: Any) -> Any:
    """The schema with a sentence in place of each `default`; an empty one is not worth a sentence."""
    if not isinstance(schema, Mapping):
        return schema
    told = {name: _told(name, value) for name, value in schema.items() if name != "default"}
    if schema.get("default"):
        value = json.dumps(schema["default"], ensure_ascii=False)
        about = str(schema.get("description", "")).strip()
        told["description"] = f"{about}  {value} if it is left out.".strip()
    return told


def _told(name: str, value: Any) -> Any:
    if name in _NAMED and isinstance(value, Mapping):
        return {each: told_in_words(schema) for each, schema in value.items()}
    if name in _LISTED and isinstance(value, list):
        return [told_in_words(each) for each in value]
    return told_in_words(value) if name in _SINGLE else value
