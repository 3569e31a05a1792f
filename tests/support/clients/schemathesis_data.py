"""Strings that once found a fault: schemathesis sends them beside its own.

Loaded by tests/schemathesis.toml; schemathesis is no dependency of the suite, which sends the same strings to every
place by itself (test_no_input_is_a_fault.py).
"""

from __future__ import annotations

from typing import Any

import schemathesis  # type: ignore[import-not-found,unused-ignore]
from hypothesis import strategies as st

from tests.support.nasty_strings import NASTY


def _one_replaced(values: Any) -> Any:
    """A strategy: the values as they are, or with one of them replaced."""
    if not isinstance(values, dict) or not values:
        return st.just(values)
    replaced = st.tuples(st.sampled_from(sorted(values)), st.sampled_from(NASTY))
    return st.one_of(st.just(values), replaced.map(lambda pair: {**values, pair[0]: pair[1]}))


def _in_form(values: Any) -> Any:
    """None of what no client can put into an address or a header."""
    return _one_replaced(values).filter(
        lambda made: not isinstance(made, dict) or all(_is_sendable(each) for each in made.values())
    )


def _is_sendable(value: Any) -> bool:
    return not isinstance(value, str) or not any("\ud800" <= letter <= "\udfff" for letter in value)


@schemathesis.hook
def flatmap_query(context: Any, query: Any) -> Any:
    return _in_form(query)


@schemathesis.hook
def flatmap_path_parameters(context: Any, path_parameters: Any) -> Any:
    return _in_form(path_parameters)


@schemathesis.hook
def flatmap_body(context: Any, body: Any) -> Any:
    return _one_replaced(body)
