"""A worker of a test, which no process runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from actors.worker.held_offers import HeldOffers
from config.settings import Provider, Settings
from tests.conftest import Store


def worker_of(store: Store, *, may_start: bool = True, **provider: Any) -> Any:
    """As much of a worker as a request needs."""
    given = Provider(kind="http", **({"may_bill_twice": False} | provider))
    settings = Settings(data_dir=store.settings.data_dir, providers={"ai": given})
    return SimpleNamespace(
        offers=HeldOffers(settings.worker_offers, settings.needs_of_types),
        settings=settings,
        database=store.database,
        write=store.database.write_async,
        may_start_requests=lambda: may_start,
    )
