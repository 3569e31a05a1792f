"""How long a failed task waits before it runs again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.backoff import FIRST_SECONDS, MOST_SECONDS, backoff_seconds

DRAWS = st.floats(0, 1, exclude_max=True)


def test_the_ceiling_doubles_from_2_seconds_to_300() -> None:
    ceilings = [round(backoff_seconds(failures, chance=1.0)) for failures in range(1, 11)]
    assert ceilings == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


@given(st.integers(1, 10_000), DRAWS)
def test_the_wait_is_anything_between_nothing_and_the_ceiling(failures: int, chance: float) -> None:
    wait = backoff_seconds(failures, chance=chance)
    assert 0 <= wait <= min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 60))
    assert backoff_seconds(failures, chance=0.0) == 0.0


@given(st.integers(1, 100), DRAWS, st.floats(0, 86_400))
def test_the_services_retry_after_is_the_minimum(failures: int, chance: float, asked: float) -> None:
    wait = backoff_seconds(failures, chance=chance, retry_after_seconds=asked)
    assert wait == max(asked, backoff_seconds(failures, chance=chance))
