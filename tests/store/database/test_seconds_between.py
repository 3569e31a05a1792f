"""Seconds between two times of the database are exact to the millisecond, in which SQLite writes them."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Store

FIRST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
MILLISECONDS_OF_A_CENTURY = 100 * 365 * 86_400 * 1000


def written(milliseconds: int) -> str:
    return (
        (FIRST + datetime.timedelta(milliseconds=milliseconds))
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def test_seconds_between_two_times_are_exact_to_the_millisecond(store: Store) -> None:
    @given(st.integers(0, MILLISECONDS_OF_A_CENTURY), st.integers(-86_400_000, 86_400_000))
    def are_exact(begin: int, milliseconds: int) -> None:
        times = {"earlier": written(begin), "later": written(begin + milliseconds)}
        seconds = store.database.read(
            lambda tx: tx.value(f"SELECT {tx.seconds_between(':earlier', ':later')}", **times)
        )
        assert float(seconds) == milliseconds / 1000

    are_exact()
