"""Sentences for people: values in their place, and numbers with the noun of their number."""

from __future__ import annotations

import pytest

from supervisor.cli.shown.user_lines import user_lines
from supervisor.core.errors import InsufficientCredits, QueueFull, TooManyOpenTasks
from supervisor.core.sentences import counted, filled


@pytest.mark.parametrize(("number", "said"), [(0, "0 tasks"), (1, "1 task"), (2, "2 tasks")])
def test_a_number_stands_with_the_noun_of_its_number(number: int, said: str) -> None:
    assert counted(number, "task") == said
    assert filled("{n|task|tasks} wait.", {"n": number}) == f"{said} wait."


def test_other_values_are_said_as_before() -> None:
    values = {"ago_seconds": 120.0, "name": None, "what": "disk"}
    assert filled("{name}: {ago_seconds}, {what}", values) == "–: 2 min, waiting for disk space"
    with pytest.raises(KeyError):
        filled("{unknown}", {})


def test_refusals_of_one_have_no_plural() -> None:
    assert "1 credit and" in str(InsufficientCredits(1, 0))
    assert "1 open task already" in str(TooManyOpenTasks(1, 1))
    assert "1 waiting task," in str(QueueFull(1, 1))


def test_one_refused_request_of_a_user_is_told_as_one() -> None:
    refusal = {"what": "requests", "reason": "blocked", "times": 1, "message": "", "last_at": "now"}
    seen = {
        "user": "o-7", "since": "now", "block": None, "balance": 1, "spent_of_day": 0, "limits": [], "open": [],
        "refusals": [refusal, {**refusal, "times": 2}, {**refusal, "what": "tasks"}], "ended": [], "entries": [],
    }  # fmt: skip
    lines = list(user_lines(seen))
    assert "  1 request, blocked (last now)" in lines and "  2 requests, blocked (last now)" in lines
    assert "  1 task, blocked (last now)" in lines
