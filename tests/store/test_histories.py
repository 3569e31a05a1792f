"""Short random histories of the whole system, the same ones each time; `make histories` runs long ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.histories.world import world_of
from tests.support.servers.postgres_databases import give_back

TROUBLED_SECONDS = 45.0  # of the history's own time


@pytest.mark.parametrize("seed", [103])
def test_a_random_history_breaks_no_promise(tmp_path: Path, database_kind: str, seed: int) -> None:
    with world_of(tmp_path, database_kind, seed) as world:
        broken = world.live(0, rounds=1, troubled_seconds=TROUBLED_SECONDS)
    if world.is_postgres:
        give_back(world.settings.database_url)
    assert not broken, "\n".join([*list(world.steps)[-60:], *broken])


@pytest.mark.sqlite_only
def test_a_seed_is_a_history_that_can_be_seen_again(tmp_path: Path, database_kind: str) -> None:
    told = []
    for time in ("first", "second"):
        (tmp_path / time).mkdir()
        with world_of(tmp_path / time, database_kind, 7) as world:
            world.live(0, rounds=1, troubled_seconds=30.0)
        told.append(list(world.steps))
    assert told[0] == told[1]
