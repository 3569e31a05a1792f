"""The filter of tasks: one reading for HTTP, the page and the command line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.selection.task_filter import ACTIONS, MEMBERS, BadFilter, read_action, read_filter


@pytest.mark.parametrize(
    ("words", "member"),
    [
        ({"colour": "red"}, "colour"),
        ({}, ""),
        ({"status": "failed"}, ""),
        ({"type": ""}, "type"),
        ({"type": "fitting", "user": ""}, "user"),
        ({"type": 7}, "type"),
        ({"user": "a\nb"}, "user"),
        ({"user": "\ud800"}, "user"),
        ({"text": "x" * 201}, "text"),
        ({"from": "yesterday"}, "from"),
        ({"to": "0001-01-01T00:00:00+14:00"}, "to"),
        ({"from": "2026-12-02", "to": "2026-12-01"}, "to"),
        ({"type": "fitting", "status": "completed"}, "status"),
    ],
)
def test_a_wrong_condition_is_named(words: dict[str, Any], member: str) -> None:
    with pytest.raises(BadFilter) as caught:
        read_filter(words, "retry")
    assert caught.value.member == member and str(caught.value).endswith(".")


def test_each_action_has_its_own_statuses() -> None:
    words = {"type": "fitting"}
    assert read_filter(words, "retry").statuses == ("failed",)
    assert read_filter(words | {"status": "cancelled"}, "retry").statuses == ("cancelled",)
    for action in ("cancel", "release"):
        wanted = read_filter(words, action)  # type: ignore[arg-type]
        assert wanted.statuses == ("ai_processing", "pending", "processing") and not wanted.is_of_ended
    with pytest.raises(BadFilter, match="one of retry, cancel, release"):
        read_action("delete")


def test_times_are_told_in_utc_and_a_day_is_its_beginning() -> None:
    wanted = read_filter({"from": "2026-12-01", "to": "2026-12-01T10:00:00+02:00"}, "retry")
    assert (wanted.since, wanted.until) == ("2026-12-01T00:00:00.000Z", "2026-12-01T08:00:00.000Z")
    assert wanted.up_to("2026-12-01T07:00:00.000Z").until == "2026-12-01T07:00:00.000Z"
    assert wanted.up_to("2026-12-02T07:00:00.000Z").until == wanted.until


_TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=20)
_TIME = st.datetimes().map(lambda at: at.isoformat())


@given(
    st.fixed_dictionaries(
        {"user": _TEXT},
        optional=dict.fromkeys(("type", "code", "provider", "text"), _TEXT) | {"from": _TIME},
    ),
    st.sampled_from(ACTIONS),
)
def test_a_filter_is_what_its_words_say(words: dict[str, str], action: Any) -> None:
    wanted = read_filter(words, action)
    assert read_filter(wanted.words(), action) == wanted
    assert set(wanted.words()) - {"status"} == set(words) and set(words) <= set(MEMBERS)
