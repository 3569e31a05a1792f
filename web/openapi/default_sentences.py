"""A schema's `default`s as sentences in its descriptions.  Pure.

Generators of clients read `default` in their own ways: openapi-typescript makes such a member required, and
openapi-python-client sends the default itself.  A sentence misleads neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# Members of a schema that hold schemas: by name, in a list, or one.  All other members hold data, where `default` is an
# ordinary word.
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    "items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "contains", "propertyNames",
    "not", "if", "then", "else",
)  # fmt: skip


def with_defaults_in_words(schema: Any) -> Any:
    """The schema with a sentence in place of each `default`; an empty default gets no sentence."""
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
        return {each: with_defaults_in_words(schema) for each, schema in value.items()}
    if name in _LISTED and isinstance(value, list):
        return [with_defaults_in_words(each) for each in value]
    return with_defaults_in_words(value) if name in _SINGLE else value
