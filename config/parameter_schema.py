"""The JSON Schema (2020-12) of a type's `parameters`: the errors of a value, and the defaults that it leaves out.

Any user may send parameters, so a check must end in a bounded time.  A time-out can't ensure that: a regular expression
can't be interrupted, and the dispatcher checks rows inside a transaction.  So the schema itself must ensure it, and a
schema that does not is refused when it is read: patterns must match in linear time (no look-around, no
back-references), no `$ref` may lead back to itself, and every `$ref` must stay inside the schema, so nothing is
fetched.  The cost of a check is then at most the size of the schema with its `$ref`s expanded, times the size of the
value.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MOST_BYTES = 262_144
MOST_SUBSCHEMAS = 10_000  # with every `$ref` written out
MOST_MISTAKES = 20
MOST_SHOWN = 200  # characters that a sentence shows of a list of choices or of a pattern

Place = tuple[str | int, ...]
Mistake = tuple[Place, str]

_ONE = (
    "additionalProperties",
    "propertyNames",
    "contains",
    "items",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "dependentSchemas")
_SHELVES = ("$defs", "definitions")
_ELSEWHERE = ("$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor")


class ParameterSchema:
    """A checked schema.  Raises ValueError: the error, to be written after a setting's name."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = dict(schema)
        _refuse_what_is_none(self._schema)
        self._anchors = dict(_anchors_in(self._schema))
        self._measure(self._schema, "#", {}, [])
        self._validator = _validator_of(self._schema)
        self._refuse_wrong_defaults()

    def mistakes_in(self, value: Any) -> list[Mistake]:
        """The errors and their places, at most 20; empty if the value is valid."""
        try:
            if self._validator.is_valid(value):
                return []
            found = [mistake for error in self._validator.iter_errors(value) for mistake in _told(error)]
        except (ValueError, OverflowError):  # a number that other programs would refuse too
            return [((), "This holds a number that is too large to be checked.")]
        return list(dict.fromkeys(found))[:MOST_MISTAKES]

    def filled(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the value with the defaults of missing members."""
        filled = self._filled(self._schema, value)
        assert isinstance(filled, dict)
        return filled

    def _filled(self, schema: Any, value: Any) -> Any:
        if not isinstance(schema, dict):
            return value
        for each in (self._target(schema), *schema.get("allOf", ())):
            value = self._filled(each, value)
        if isinstance(value, Mapping):
            return self._with_members(schema.get("properties", {}), value)
        if isinstance(value, list) and isinstance(schema.get("items"), dict):
            return [self._filled(schema["items"], each) for each in value]
        return value

    def _with_members(self, members: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
        filled = dict(value)
        for name, schema in members.items():
            if name in filled:
                filled[name] = self._filled(schema, filled[name])
            else:
                filled.update((name, default) for default in self._default_of(schema))
        return filled

    def _default_of(self, schema: Any) -> Iterator[Any]:
        """The default, if there is one."""
        while isinstance(schema, dict):
            if "default" in schema:
                yield self._filled(schema, copy.deepcopy(schema["default"]))
                return
            schema = self._target(schema)

    def _target(self, schema: Mapping[str, Any]) -> Any:
        """The target of a `$ref`; None without one.  Raises ValueError."""
        reference = schema.get("$ref")
        if reference is None:
            return None
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise ValueError(
                f"refers to {_shown(reference)}, but a $ref may only lead to a place in the schema itself, such as "
                "#/$defs/size: no address is ever asked for one"
            )
        if reference in self._anchors:
            return self._anchors[reference]
        here: Any = self._schema
        for part in unquote(reference[1:]).split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            try:
                here = here[int(name)] if isinstance(here, list) else here[name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise ValueError(f"refers to {_shown(reference)}, where there is nothing") from None
        return here

    def _measure(self, schema: Any, place: str, known: dict[int, int], above: list[int]) -> int:
        """The number of subschemas, with every `$ref` expanded.  Raises ValueError."""
        if not isinstance(schema, dict):
            return 1
        if id(schema) in above:
            raise ValueError(
                f"leads back to itself at {place}, but a schema of parameters must end, so that checking them ends"
            )
        if id(schema) not in known:
            above.append(id(schema))
            size = 1
            for where, each in _below(schema):
                size += self._measure(each, f"{place}/{where}", known, above)
            target = self._target(schema)
            if target is not None:
                size += self._measure(target, f"{place}/$ref", known, above)
            above.pop()
            known[id(schema)] = size
        if known[id(schema)] > MOST_SUBSCHEMAS:
            raise ValueError(f"is larger than {MOST_SUBSCHEMAS:,} schemas with every $ref written out")
        return known[id(schema)]

    def _refuse_wrong_defaults(self) -> None:
        defaults = self.filled({})
        for error in self._validator.iter_errors(defaults):
            where = tuple(error.instance_path)
            if where:
                said = _told(error)[0][1].rstrip(".")
                raise ValueError(
                    f"has a default that it does not itself allow: {'/'.join(map(str, where))}. {said}"
                )


def _refuse_what_is_none(schema: dict[str, Any]) -> None:
    try:
        text = json.dumps(schema, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        raise ValueError("holds what JSON can't hold") from None
    if len(text) > MOST_BYTES:
        raise ValueError(f"is longer than {MOST_BYTES:,} bytes")
    if str(schema.get("$schema", DIALECT)).rstrip("#") != DIALECT:
        raise ValueError(
            f"says that it is {_shown(schema['$schema'])}, but may be JSON Schema 2020-12 ({DIALECT})"
        )
    if schema.get("type", "object") != "object":
        raise ValueError(f"is of type {_shown(schema['type'])}, but parameters are always an object")
    waiting: list[Any] = [schema]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            for name in _ELSEWHERE:
                if name in here:
                    raise ValueError(f"holds {name}, but may refer only by $ref")
            if "$id" in here and here is not schema:
                raise ValueError("holds an $id below its top, but may have one only there")
            waiting += [each for _, each in _below(here)]


def _below(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every direct subschema with its place; wrong shapes are left to the meta-schema."""
    for name in _ONE:
        if name in schema:
            yield name, schema[name]
    for name in _MANY:
        if isinstance(schema.get(name), list):
            yield from ((f"{name}/{n}", each) for n, each in enumerate(schema[name]))
    for name in _NAMED:
        if isinstance(schema.get(name), dict):
            yield from ((f"{name}/{key}", each) for key, each in schema[name].items())


def _anchors_in(schema: Any) -> Iterator[tuple[str, Any]]:
    waiting = [schema]
    while waiting:
        here = waiting.pop()
        if not isinstance(here, dict):
            continue
        if isinstance(here.get("$anchor"), str):
            yield f"#{here['$anchor']}", here
        waiting += [each for _, each in _below(here)]
        for shelf in _SHELVES:
            if isinstance(here.get(shelf), dict):
                waiting += here[shelf].values()


def _validator_of(schema: dict[str, Any]) -> Any:
    """Raises ValueError, a half sentence."""
    import jsonschema_rs  # imported only if a type has a schema: 5 MB

    def refuse(address: str) -> Any:
        raise ValueError(f"{address} is outside the schema")

    linear = jsonschema_rs.RegexOptions(size_limit=1_000_000, dfa_size_limit=1_000_000)
    try:
        return jsonschema_rs.Draft202012Validator(schema, pattern_options=linear, retriever=refuse)
    except jsonschema_rs.ValidationError as error:
        place = "/".join(str(part) for part in error.instance_path)
        said = f"is no JSON Schema 2020-12: {place or 'its top'}: "
        if (error.instance_path and error.instance_path[-1] == "pattern") or "patternProperties" in place:
            said += f"{_shown(error.instance)} can't be used as a pattern; look-around and back-references never can"
        else:
            said += error.message[:MOST_SHOWN].rstrip(".")
        raise ValueError(said) from None
    except jsonschema_rs.ReferencingError as error:
        raise ValueError(f"refers to what is not there: {error}") from None


# --- mistakes in sentences ---

_NOUNS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a JSON object",
    "null": "null",
}
_BOUNDS = {
    "minimum": "This must be at least {limit}.",
    "maximum": "This must be at most {limit}.",
    "exclusiveMinimum": "This must be above {limit}.",
    "exclusiveMaximum": "This must be below {limit}.",
    "multipleOf": "This must be a multiple of {multiple_of}.",
    "minLength": "This must have at least {limit} characters.",
    "maxLength": "This must have at most {limit} characters.",
    "minItems": "This must hold at least {limit} entries.",
    "maxItems": "This must hold at most {limit} entries.",
    "minProperties": "This must have at least {limit} members.",
    "maxProperties": "This must have at most {limit} members.",
    "uniqueItems": "No two entries may be the same.",
    "contains": "None of the entries is one that must be there.",
    "anyOf": "This has none of the forms that it may have.",
    "oneOf": "This must have exactly one of the forms that it may have.",
    "not": "This has a form that it may not have.",
    "falseSchema": "Nothing may stand here.",
}


def _told(error: Any) -> list[Mistake]:
    """A validator's error as places and sentences; an error about several members names each."""
    place, kind = tuple(error.instance_path), error.kind
    name = kind.name
    match name:
        case "required":
            return [((*place, kind.property), "This member is required.")]
        case "additionalProperties" | "unevaluatedProperties":
            return [((*place, each), "There is no such member.") for each in kind.unexpected]
        case "type":
            types = kind.types if isinstance(kind.types, list) else [kind.types]
            return [(place, f"This must be {_either([_NOUNS.get(str(each), str(each)) for each in types])}.")]
        case "enum":
            return [(place, f"This may be {_either([_shown(each) for each in kind.options])}.")]
        case "const":
            return [(place, f"This may only be {_shown(kind.expected_value)}.")]
        case "pattern":
            return [(place, f"This does not match the pattern {_shown(kind.pattern)}.")]
        case "propertyNames":
            return [(place, "The name of a member is not one that it may have.")]
    sentence = _BOUNDS.get(name, "This is not what the type's schema asks for ({name}).")
    return [(place, sentence.format(**{"name": name, **kind.as_dict()}))]


def _either(words: list[str]) -> str:
    text = ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else "".join(words)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"
