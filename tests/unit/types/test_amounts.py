"""The cost that a service reports: as written, exact, and never a float."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.providers.common.costs import parse_cost_place
from actors.providers.common.paths import BadPath
from config.settings import Settings
from supervisor.remote.amounts import amount_of, nanos, plain, plus

AMOUNTS = st.decimals(min_value=0, max_value=10**6, allow_nan=False, allow_infinity=False, places=9)


@pytest.mark.parametrize(
    ("said", "amount"),
    [
        ("0.10", "0.10"),
        (0.1, "0.1"),
        (3, "3"),
        ("1e-7", "1e-7"),
        (" 0.04 ", "0.04"),
        (Decimal("0.0400"), "0.0400"),
        (0, "0"),
    ],
)
def test_an_amount_is_kept_as_it_was_written(said: object, amount: str) -> None:
    assert amount_of(said) == amount


@pytest.mark.parametrize(
    "said",
    [
        None,
        True,
        "",
        "-1",
        "$0.04",
        "0.04 USD",
        "nan",
        "Infinity",
        float("inf"),
        float("nan"),
        "1" * 41,
        [1],
        {},
        "1e999",
        "٣",
    ],
)
def test_only_numbers_from_0_are_amounts(said: object) -> None:
    assert amount_of(said) is None


@given(st.lists(st.tuples(AMOUNTS, st.integers(1, 10**6))))
def test_sums_are_exact(costs: list[tuple[Decimal, int]]) -> None:
    total = Decimal(0)
    for amount, times in costs:
        total = plus(total, str(amount), times)
    exact = sum((Fraction(amount) * times for amount, times in costs), Fraction(0))
    assert Fraction(plain(total)) == exact
    assert "e" not in plain(total).lower()


@given(AMOUNTS)
def test_a_metric_counts_whole_billionths(amount: Decimal) -> None:
    assert Fraction(nanos(str(amount))) == Fraction(amount) * 10**9


@pytest.mark.parametrize("written", ["0.10", "0.12345678901234567890", "1E-7", "12", '"0.040"'])
def test_a_number_in_an_answer_is_not_rounded(written: str) -> None:
    body = f'{{"usage": {{"cost": {written}}}}}'.encode()
    place = parse_cost_place("$.usage.cost")
    assert place.cost_in({}, body, json.loads(body)) == written.strip('"')


def test_a_cost_may_stand_in_a_header() -> None:
    place = parse_cost_place("header: X-LiteLLM-Response-Cost")
    assert place.cost_in({"x-litellm-response-cost": "0.0400"}, b"", None) == "0.0400"
    assert place.cost_in({}, b"", None) is None


def test_an_error_about_a_streamed_answer_shows_the_part_that_was_read() -> None:
    assert parse_cost_place("$.usage.cost").cost_in({}, b"", {"usage": {"cost": 0.1}}) == "0.1"


@pytest.mark.parametrize("text", ["usage.cost", "header:", "header:a b", "$..cost"])
def test_an_invalid_path_is_reported(text: str) -> None:
    with pytest.raises(BadPath):
        parse_cost_place(text)


def test_a_cost_without_a_unit_and_a_unit_that_is_none_are_refused() -> None:
    with pytest.raises(ValueError, match="COST_UNIT is not set"):
        Settings(providers={"ai": {"kind": "http", "cost": "$.cost"}})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="COST_UNIT is 'US dollars'"):
        Settings(providers={"ai": {"kind": "http", "cost": "$.cost", "cost_unit": "US dollars"}})  # type: ignore[dict-item]
