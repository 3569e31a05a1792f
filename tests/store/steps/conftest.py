"""A house whose type has steps, for the tests of what attempts and polls make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from tests.conftest import Clock, Store
from tests.support.databases import is_postgres
from tests.support.models.step_house import Fate, StepHouse, settings_with
from tests.support.servers.postgres_databases import give_back


@pytest.fixture
def settings(tmp_path: Path, database_kind: str) -> Iterator[Settings]:
    chosen = settings_with(tmp_path, database_kind)
    yield chosen
    if is_postgres(chosen):
        give_back(chosen.database_url)


@pytest.fixture
def opened(store: Store, clock: Clock, settings: Settings) -> Callable[..., StepHouse]:
    store.database.write_now(lambda tx: tx.execute("UPDATE rule SET signup_grant = 1000"))

    def make(fate: Fate = lambda asked: None, **type_: Any) -> StepHouse:
        house = StepHouse(store, clock, settings, fate)
        house.change(**type_)
        return house

    return make
