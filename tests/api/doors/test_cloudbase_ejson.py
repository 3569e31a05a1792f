"""Extended JSON, as CloudBase's SDKs write and read it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.doors.cloudbase.ejson import SERVER_TIME, BadEjson, decode, encode

_TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(
    lambda moment: moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1000 * 1000)
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | _TIMES,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text().filter(lambda name: not name.startswith("$")), inner)
    ),
    max_leaves=20,
)


@given(_VALUES)
def test_a_written_value_is_read_back(value: Any) -> None:
    assert decode(json.loads(json.dumps(encode(value)))) == value


_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.text()
            | st.sampled_from(
                ["$date", "$numberLong", "$numberInt", "$numberDouble", "$tcb_server_date", "$oid", "$in"]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@given(_JSON)
def test_anything_else_is_refused_with_a_sentence(value: Any) -> None:
    try:
        decode(value)
    except BadEjson as bad:
        assert str(bad).endswith(".")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ({"$numberInt": "3"}, 3),
        ({"$numberLong": "1000000000000000"}, 10**15),
        ({"$numberDouble": "1.5"}, 1.5),
        ({"$numberDouble": "1e+21"}, 1e21),
        (3, 3),
        ({"$date": {"$numberLong": "0"}}, datetime(1970, 1, 1, tzinfo=UTC)),
        ({"$date": "1970-01-01T00:00:01Z"}, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=1)),
        ({"$tcb_server_date": {"offset": {"$numberInt": "0"}}}, SERVER_TIME),
        ({"status": {"$in": ["a", {"$numberInt": "1"}]}}, {"status": {"$in": ["a", 1]}}),
    ],
)
def test_each_form_of_the_sdks_is_read(written: Any, value: Any) -> None:
    assert decode(written) == value


@pytest.mark.parametrize(
    "written",
    [
        {"$numberInt": "1.5"},
        {"$numberInt": "9" * 30},
        {"$numberDouble": "Infinity"},
        {"$numberDouble": "NaN"},
        {"$date": {"$numberLong": "9" * 19}},
        {"$date": "yesterday"},
        {"$date": None},
        {"$regularExpression": {"pattern": "a", "options": ""}},
        {"$tcb_server_date": {"offset": {"$numberInt": "5"}}},
        {"$tcb_server_date": 1},
    ],
)
def test_values_that_cannot_be_stored_are_refused(written: Any) -> None:
    with pytest.raises(BadEjson):
        decode({"a": [written]})
