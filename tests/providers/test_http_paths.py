"""The supported part of JSONPath."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.providers.common.paths import BadPath, parse_path

ANSWER = {
    "output": {"results": [{"url": "a"}, {"url": "b"}, {"code": "X"}], "image_url": "c"},
    "data": [{"b64_json": "d"}],
    "odd name": {"it's": 1},
    "codes": [[1, 2], [3]],
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [ANSWER]),
        ("$.output.image_url", ["c"]),
        ("$.output.results[*].url", ["a", "b"]),
        ("$.output.results[0].url", ["a"]),
        ("$.output.results[-1].code", ["X"]),
        ("$.output.results[ 1 ]['url']", ["b"]),
        ("$.output.results[7].url", []),
        ("$['odd name'][\"it's\"]", [1]),
        ("$.codes[*][*]", [1, 2, 3]),
        ("$.codes[*][1]", [2]),
        ("$.data.*.b64_json", ["d"]),
        ("$.output.*.url", []),
        ("$.data.b64_json", []),
        ("$.output[0]", []),
        ("$.nothing.at.all", []),
    ],
)
def test_the_results_of_each_path(path, found):
    assert parse_path(path).find(ANSWER) == found


@pytest.mark.parametrize(
    "text", ["", "output", "$output", "$.", "$..url", "$.a[", "$.a[x]", "$.a[?(@.b)]", "$ .a"]
)
def test_an_invalid_path_is_refused(text):
    with pytest.raises(BadPath, match="is no path"):
        parse_path(text)


names = st.text(alphabet=st.characters(exclude_characters="'", codec="utf-8"), min_size=1, max_size=8)


@given(st.lists(names | st.integers(0, 5), max_size=6), st.integers())
def test_a_path_finds_the_value_put_there(steps, value):
    document = value
    for step in reversed(steps):
        document = {step: document} if isinstance(step, str) else [None] * step + [document]
    text = "$" + "".join(f"['{step}']" if isinstance(step, str) else f"[{step}]" for step in steps)
    assert parse_path(text).find(document) == [value]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@given(anything, st.lists(st.sampled_from([".a", ".b", "[0]", "[-1]", "[*]", ".*"]), max_size=5))
def test_a_path_never_fails_on_a_document(document, steps):
    assert isinstance(parse_path("$" + "".join(steps)).find(document), list)
