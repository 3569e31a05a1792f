"""Schemas of parameters: what they refuse, in sentences with places, and which schemas are refused themselves."""

from __future__ import annotations

import copy
import json
import time
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.parameter_schema import MOST_MISTAKES, ParameterSchema

POSTER = {
    "type": "object",
    "properties": {
        "quality": {"enum": ["sd", "hd"], "default": "sd"},
        "steps": {"type": "integer", "minimum": 1, "maximum": 50, "default": 20},
        "title": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-z]+$"},
        "size": {"$ref": "#/$defs/size"},
        "tags": {"type": "array", "maxItems": 2, "uniqueItems": True, "items": {"$ref": "#/$defs/tag"}},
        "seed": {"type": ["integer", "null"]},
        "even": {"type": "number", "multipleOf": 2},
        "one": {"const": 1},
    },
    "required": ["title"],
    "additionalProperties": False,
    "$defs": {
        "size": {
            "type": "object",
            "properties": {"width": {"type": "integer", "default": 512}, "height": {"type": "integer"}},
            "default": {"height": 256},
        },
        "tag": {"type": "object", "properties": {"name": {"type": "string"}, "weight": {"default": 1}}},
    },
}


@pytest.mark.parametrize(
    ("value", "place", "sentence"),
    [
        ({}, ("title",), "This member is required."),
        ({"title": "abc", "quallity": 1}, ("quallity",), "There is no such member."),
        ({"title": "abc", "quality": "uhd"}, ("quality",), 'This may be "sd" or "hd".'),
        ({"title": "abc", "steps": "5"}, ("steps",), "This must be a whole number."),
        ({"title": "abc", "steps": 51}, ("steps",), "This must be at most 50."),
        ({"title": "abc", "steps": 0}, ("steps",), "This must be at least 1."),
        ({"title": ""}, ("title",), "This must have at least 1 characters."),
        ({"title": "ABC"}, ("title",), 'This does not match the pattern "^[a-z]+$".'),
        ({"title": "abc", "size": 5}, ("size",), "This must be a JSON object."),
        ({"title": "abc", "size": {"width": 1.5}}, ("size", "width"), "This must be a whole number."),
        ({"title": "abc", "tags": [{"name": 5}]}, ("tags", 0, "name"), "This must be text."),
        ({"title": "abc", "tags": [1, 2, 3]}, ("tags",), "This must hold at most 2 entries."),
        ({"title": "abc", "tags": [{}, {}]}, ("tags",), "No two entries may be the same."),
        ({"title": "abc", "seed": "x"}, ("seed",), "This must be null or a whole number."),
        ({"title": "abc", "even": 3}, ("even",), "This must be a multiple of 2."),
        ({"title": "abc", "one": 2}, ("one",), "This may only be 1."),
    ],
)  # fmt: skip
def test_a_mismatch_is_reported_in_our_words_with_its_place(value: Any, place: Any, sentence: str) -> None:
    assert (place, sentence) in ParameterSchema(POSTER).mistakes_in(value)


def test_valid_parameters_raise_no_error() -> None:
    fine = {"title": "abc", "steps": 3, "seed": None, "tags": [{"name": "x"}], "size": {"width": 3}}
    assert ParameterSchema(POSTER).mistakes_in(fine) == []


def test_the_number_of_reported_mistakes_is_limited() -> None:
    schema = ParameterSchema({"additionalProperties": {"type": "string"}})
    assert len(schema.mistakes_in({f"p{n}": n for n in range(5000)})) == MOST_MISTAKES


def test_defaults_are_filled_where_something_is_left_out_and_nowhere_else() -> None:
    schema = ParameterSchema(POSTER)
    given_ = {"title": "abc", "quality": "hd", "tags": [{"name": "x"}]}
    before = copy.deepcopy(given_)
    assert schema.filled(given_) == {
        "title": "abc",
        "quality": "hd",
        "steps": 20,
        "tags": [{"name": "x", "weight": 1}],
        "size": {"height": 256, "width": 512},
    }
    assert given_ == before, "the given value is not changed"
    schema.filled({"title": "a"})["size"]["height"] = 7
    assert schema.filled({"title": "a"})["size"]["height"] == 256, "no two orders share a default"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "strin"}, "strin"),
        ({"type": "array"}, "always an object"),
        ({"properties": {"a": {"$ref": "https://example.org/size.json"}}}, "no address is ever asked"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "no address is ever asked"),
        ({"properties": {"a": {"$ref": "other.json#/x"}}}, "no address is ever asked"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "where there is nothing"),
        ({"properties": {"a": {"$dynamicRef": "#x"}}}, "$dynamicRef"),
        ({"properties": {"a": {"$ref": "#"}}}, "leads back to itself"),
        (
            {"$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}},
             "properties": {"a": {"$ref": "#/$defs/a"}}},
            "leads back to itself",
        ),
        ({"properties": {"a": {"$id": "https://example.org/a"}}}, "$id below its top"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "draft-07"),
        ({"properties": {"a": {"pattern": "(?=x)y"}}}, "look-around"),
        ({"properties": {"a": {"pattern": "("}}}, "can't be used as a pattern"),
        ({"properties": {"a": {"pattern": r"(a)\1"}}}, "back-references"),
        ({"properties": {"a": {"minimum": "1"}}}, "minimum"),
        ({"properties": {"a": {"type": "integer", "default": "x"}}}, "default that it does not itself allow: a"),
        ({"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(20)} | {"d20": {}},
          "properties": {"a": {"$ref": "#/$defs/d0"}}}, "larger than 10,000"),
        ({"description": "x" * 300_000}, "longer than"),
    ],
)  # fmt: skip
def test_a_schema_that_can_not_be_checked_in_a_known_time_or_at_all_is_refused(
    schema: Any, said: str
) -> None:
    with pytest.raises(ValueError) as refused:
        ParameterSchema(schema)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_no_text_takes_long_whatever_the_pattern() -> None:
    """`^(a+)+$` takes a backtracking engine 2^n steps."""
    schema = ParameterSchema({"additionalProperties": {"pattern": "^(a+)+$"}})
    began = time.thread_time()
    assert schema.mistakes_in({"a": "a" * 500_000 + "!"})
    assert time.thread_time() - began < 5, "linear: a few milliseconds"


@pytest.mark.parametrize("name", ["a/b", "~", "", "a b", "ä"])
def test_names_of_any_letters_are_found_by_a_reference(name: str) -> None:
    escaped = name.replace("~", "~0").replace("/", "~1")
    schema = ParameterSchema(
        {"$defs": {name: {"default": 7}}, "properties": {"x": {"$ref": f"#/$defs/{quote(escaped)}"}}}
    )
    assert schema.filled({}) == {"x": 7}


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-100, 100)
    | st.sampled_from(["", "abc", "hd", "sd", "ABC", "abcdefg"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["width", "height", "name", "weight", "other"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*POSTER["properties"], "other"]), _VALUES, max_size=6))  # type: ignore[misc]
def test_it_agrees_with_the_reference_validator(value: dict[str, Any]) -> None:
    """Another implementation, written in another language by other people."""
    reference = jsonschema.Draft202012Validator(POSTER)
    assert (ParameterSchema(POSTER).mistakes_in(value) == []) == reference.is_valid(value), json.dumps(value)
