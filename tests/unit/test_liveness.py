"""All reports of liveness come from one function: while nothing works, none says that all is well."""

from __future__ import annotations

import math
from collections.abc import Callable

from metrics.catalogue import families_of_the_database
from metrics.database_collector import gauge_values, read_values
from supervisor.cli.doctor.doctor_liveness import examine_movement
from supervisor.health.liveness import DispatcherSign, Judge, WorkerSign, judged
from supervisor.health.troubles import troubles
from supervisor.store.operators import overview
from supervisor.store.queue import leader, liveness, queue_snapshot, workers
from supervisor.store.tasks import user_actions
from tests.conftest import Clock, Store
from tests.support.well import Well

SILENT = 10.0  # LEASE_SECONDS - HEARTBEAT_SECONDS, from when on a worker begins nothing by its own clock


def worker(silent_seconds: float, state: str = "live") -> WorkerSign:
    return WorkerSign("w-1", state, slots=4, busy=1, silent_seconds=silent_seconds)


def beats(silent_seconds: float = 0.2, well_seconds: float = 1000.0) -> DispatcherSign:
    return DispatcherSign("d-1", silent_seconds, well_seconds)


def codes(store: Store) -> list[tuple[str, str | None]]:
    seen = store.database.read(lambda tx: overview.read(tx, store.settings))
    found = troubles({**seen, "processes": [], "is_broker_up": True})
    return [(each["code"], each["subject"]) for each in found if each["code"] != "sweep_none"]


def metrics(store: Store) -> dict[tuple[str, tuple[str, ...]], float]:
    families = families_of_the_database(store.settings)
    now, _ = store.database.read(lambda tx: read_values(tx, store.settings))
    told = gauge_values(families, now, store.settings.providers)
    return {(name, labels): value for name, values in told.items() for labels, value in values.items()}


def eta(store: Store, task_id: str) -> int | None:
    order = store.database.read(lambda tx: queue_snapshot.read_order(tx, store.settings))
    view = store.database.read(lambda tx: user_actions.get(tx, task_id))
    assert view is not None
    found: int | None = order.placed(view)["eta_seconds"]
    return found


def test_a_worker_is_fresh_while_it_may_begin_tasks_and_silent_from_then_on() -> None:
    assert judged([worker(SILENT)], beats(), SILENT).works
    verdict = judged([worker(SILENT + 0.1)], beats(), SILENT)
    assert (verdict.taking, verdict.slots, verdict.works) == ((), 0, False)
    assert not judged([worker(0.0, "draining")], beats(), SILENT).works


def test_after_a_gap_or_a_stepped_clock_silence_is_counted_from_zero() -> None:
    assert judged([worker(90.0)], beats(well_seconds=3.0), SILENT).works
    assert not judged([worker(90.0)], beats(well_seconds=16.0), SILENT).works


def test_while_the_dispatcher_is_silent_the_clock_judges() -> None:
    verdict = judged([worker(3.0)], beats(silent_seconds=11.0, well_seconds=3.0), SILENT)
    assert (verdict.judge, verdict.works, len(verdict.taking)) == (Judge.CLOCK, False, 1)
    assert judged([worker(90.0)], beats(11.0, well_seconds=3.0), SILENT).taking == ()
    assert not judged([], DispatcherSign(None, 0.1, 9.0), SILENT).is_dispatcher_fresh, "it has left"
    assert not judged([], DispatcherSign("d-1"), SILENT).is_dispatcher_fresh, "it has never beaten"


def test_frozen_workers_and_a_frozen_dispatcher_are_reported_everywhere(
    store: Store, clock: Clock, live_worker: Callable[..., str], completed_task: Callable[..., str],
    admitted_task: Callable[..., str],
) -> None:  # fmt: skip
    live_worker()
    well = Well(store, clock)
    completed_task()
    well.passes(60)
    store.write(lambda tx: workers.beat(tx, "worker-1", 0))
    waiting = admitted_task("o-2")
    assert codes(store) == [] and eta(store, waiting) is not None
    assert metrics(store)["darkroom_workers", ("live",)] == 1

    well.passes(SILENT + 1)  # the worker is frozen, and not declared dead yet
    assert codes(store) == [("workers_silent", None)]
    assert eta(store, waiting) is None, "nobody works on it"
    assert [row["state"] for row in store.all("SELECT state FROM worker")] == ["live"]
    told = metrics(store)
    assert (told["darkroom_workers", ("live",)], told["darkroom_silent_workers", ()]) == (0, 1)
    assert told["darkroom_worker_slots", ("free",)] == 0
    assert told["darkroom_worker_beat_seconds", ("youngest",)] > SILENT
    assert told["darkroom_dispatcher_beat_seconds", ()] < 5

    clock.advance(11)  # and now the dispatcher too
    assert [code for code, _ in codes(store)] == ["dispatcher_silent", "workers_silent"]
    assert metrics(store)["darkroom_dispatcher_beat_seconds", ()] > 10
    said = {part: sentence for part, is_well, sentence in examine_movement(store.database, store.settings)}
    assert "by the database's clock, since no dispatcher judges them" in said["workers"]
    assert "dispatcher-1 has shown no beat for 1" in said["dispatcher"]


def test_a_frozen_dispatcher_alone_is_reported_while_workers_beat(
    store: Store, clock: Clock, live_worker: Callable[..., str], admitted_task: Callable[..., str],
    completed_task: Callable[..., str],
) -> None:  # fmt: skip
    live_worker()
    Well(store, clock)
    completed_task()
    clock.advance(12)
    store.write(lambda tx: workers.beat(tx, "worker-1", 0))
    assert codes(store) == [("dispatcher_silent", "dispatcher-1")]
    assert eta(store, admitted_task("o-2")) is None
    assert not store.database.read(lambda tx: liveness.read(tx, SILENT)).works


def test_a_silent_worker_beside_others_is_named(
    store: Store, clock: Clock, live_worker: Callable[..., str]
) -> None:
    live_worker("worker-1")
    live_worker("worker-2")
    well = Well(store, clock)
    well.passes(SILENT + 2)
    store.write(lambda tx: workers.beat(tx, "worker-2", 0))
    assert codes(store) == [("worker_silent", "worker-1")]


def test_nothing_is_estimated_for_a_type_of_which_nothing_is_started(
    store: Store, clock: Clock, live_worker: Callable[..., str], completed_task: Callable[..., str],
    admitted_task: Callable[..., str],
) -> None:  # fmt: skip
    live_worker()
    Well(store, clock)
    completed_task()
    waiting = admitted_task("o-2")
    assert eta(store, waiting) is not None
    pause = "INSERT INTO pause (kind, name, operator) VALUES (?, ?, 'o-oncall')"
    for kind, name in (("type", "photography"), ("provider", "studio")):
        store.write(lambda tx, k=kind, n=name: tx.execute(pause, k, n))  # type: ignore[misc]
        assert eta(store, waiting) is None
        store.write(lambda tx: tx.execute("DELETE FROM pause"))
    assert eta(store, waiting) is not None


def test_a_dispatcher_that_has_never_beaten_has_an_infinite_age(store: Store) -> None:
    assert metrics(store)["darkroom_dispatcher_beat_seconds", ()] == math.inf
    held = store.write(lambda tx: leader.take_over(tx, leader.read(tx), "d-1"))
    assert held is not None
    store.write(lambda tx: leader.renew(tx, held))
    assert metrics(store)["darkroom_dispatcher_beat_seconds", ()] < 60
