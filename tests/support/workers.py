"""A worker of a test, which no process runs, and what such a worker reports of one task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from actors.worker.held_offers import HeldOffers
from config.provider import Provider
from config.settings import Settings
from supervisor.database.interface.database import Transaction
from supervisor.store.queue.capacity import Capacity
from supervisor.store.tasks import claims


def worker_of(store: Any, *, may_start: bool = True, **provider: Any) -> Any:
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


def report_progress(tx: Transaction, task_id: str, lease: int, percent: int, stage: str) -> bool:
    """Record the progress of one attempt.  False if the lease is no longer held."""
    (is_held,) = claims.report_all(tx, [claims.Report(task_id, lease, percent, stage)])
    return is_held


def complete(tx: Transaction, task_id: str, lease: int, made: list[dict[str, Any]], missing: int = 0) -> None:
    """Record the success of one attempt.  Raises LeaseLost."""
    (lost,) = claims.complete_all(tx, [claims.Made(task_id, lease, made, missing)]).get()
    if lost is not None:
        raise lost


def free_slots(store: Any) -> int:
    """How many plain tasks the live workers could take now."""
    placement = store.database.read(lambda tx: Capacity(tx, store.settings).placement([]))
    return len(list(iter(lambda: placement.place("photography"), None)))
