"""Needs of types and offers of workers, counted from rows: exact for every dispatcher, and no delay for other types."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from config.settings import Settings
from config.task_type import TaskType
from supervisor.core.placement import Room
from supervisor.health.diagnosis import diagnose
from supervisor.health.troubles import troubles
from supervisor.store.operators import gauges, overview, task_details
from supervisor.store.queue import dispatch, leader, queue_snapshot, workers
from supervisor.store.queue.capacity import Capacity
from supervisor.store.sql.row_isolation import Aside
from supervisor.store.tasks import remote_wait, task_views
from tests.conftest import Clock, Store
from tests.support.databases import Plain
from tests.support.workers import complete

Make = Callable[..., str]


@pytest.fixture
def house(store: Store) -> Store:
    """A store with a type `flux` that needs a gpu and a type `pair` that needs two."""
    before = store.settings
    store.settings = Settings(
        data_dir=before.data_dir,
        database_url=before.database_url,
        tasks={"flux": TaskType(needs={"gpu": 1}), "pair": TaskType(needs={"gpu": 2})},
        limits={"running_tasks_per_user": 0, "open_tasks_per_user": 0},
        credits={"enabled": False},
    )
    return store


def register(store: Store, name: str, slots: int = 8, **more: Any) -> None:
    store.write(lambda tx: workers.register(tx, name, host="here", pid=1, slots=slots, **more))


def held_by(store: Store, worker_id: str) -> list[str]:
    """Types of what it has, sorted."""
    rows = store.all("SELECT type FROM task_queue WHERE worker_id = ? ORDER BY type", worker_id)
    return [row["type"] for row in rows]


def test_a_task_goes_only_to_a_worker_with_its_needs_free(house: Store, admitted_task: Make) -> None:
    register(house, "cpu")
    register(house, "gpu", offers={"gpu": 1})
    flux = [admitted_task(type_="flux") for _ in range(3)]
    (first,) = house.dispatch()
    assert (first.task_id, held_by(house, "gpu"), house.dispatch()) == (flux[0], ["flux"], [])
    house.write(lambda tx: complete(tx, first.task_id, first.lease, []))
    (second,) = house.dispatch()
    assert second.task_id == flux[1] and held_by(house, "cpu") == []


def test_a_task_that_waits_for_a_service_holds_no_offer(
    house: Store, admitted_task: Make, clock: Clock
) -> None:
    register(house, "gpu", offers={"gpu": 1})
    for _ in range(2):
        admitted_task(type_="flux")
    (first,) = house.dispatch()
    house.write(
        lambda tx: remote_wait.hand_off(
            tx, first.task_id, first.lease, poll_in_seconds=0, remote_limit_seconds=9
        )
    )
    assert [claim.type for claim in house.dispatch()] == ["flux"]
    clock.advance(1)
    assert [poll.task_id for poll in house.claim_polls()] == [first.task_id], "polls run beside it"


def test_others_do_not_wait_behind_a_type_that_no_worker_takes(house: Store, admitted_task: Make) -> None:
    register(house, "cpu", slots=4)
    flux = [admitted_task(type_="flux", priority=5) for _ in range(3)]
    plain = [admitted_task() for _ in range(3)]
    assert [claim.task_id for claim in house.dispatch()] == plain
    register(house, "gpu", offers={"gpu": 1})
    assert [claim.task_id for claim in house.dispatch()] == flux[:1], "it has kept its place"


def test_two_that_need_one_do_not_overtake_one_that_needs_two(house: Store, admitted_task: Make) -> None:
    register(house, "gpu", offers={"gpu": 2})
    for _ in range(2):
        admitted_task(type_="flux")
    running = house.dispatch()
    pair = admitted_task(type_="pair", priority=1)
    behind = admitted_task(type_="flux")
    house.write(lambda tx: complete(tx, running[0].task_id, running[0].lease, []))
    assert house.dispatch() == [], "the one that is free is kept"
    house.write(lambda tx: complete(tx, running[1].task_id, running[1].lease, []))
    assert [claim.task_id for claim in house.dispatch()] == [pair]
    assert house.task(behind)["status"] == "pending"


def test_a_restricted_worker_is_given_its_types_alone(
    house: Store, admitted_task: Make, handed_off_task: Callable[..., str], clock: Clock
) -> None:
    remote = handed_off_task()
    house.write(lambda tx: workers.drain(tx, "worker-1"))
    register(house, "only-flux", offers={"gpu": 1}, types=["flux"])
    plain, flux = admitted_task(), admitted_task(type_="flux")
    assert [claim.task_id for claim in house.dispatch()] == [flux]
    clock.advance(1)
    assert house.claim_polls() == [], "not even a poll"
    register(house, "any")
    assert [claim.task_id for claim in house.dispatch()] == [plain]
    assert [poll.task_id for poll in house.claim_polls()] == [remote]


def test_a_row_that_the_database_refuses_keeps_no_gpu_from_others(house: Store, admitted_task: Make) -> None:
    register(house, "gpu", offers={"gpu": 1})
    bad, good = admitted_task(type_="flux"), admitted_task(type_="flux")
    picked = house.write(lambda tx: dispatch.pick_and_claim(tx, house.settings, aside=Aside([bad])))
    assert [row["id"] for row in picked.claims] == [good]


def test_settings_without_needs_cost_no_statement_more(store: Store, house: Store) -> None:
    def asked(settings: Settings) -> int:
        sent: list[str] = []

        def count(tx: Any) -> None:
            class Spy:
                def __getattr__(self, name: str) -> Any:
                    return getattr(tx, name)

                def ask(self, sql: str, **params: Any) -> Any:
                    sent.append(sql)
                    return tx.ask(sql, **params)

            Capacity(Spy(), settings)  # type: ignore[arg-type]

        store.database.read(count)
        return len(sent)

    plain = Settings(data_dir=house.settings.data_dir, database_url=house.settings.database_url)
    assert asked(house.settings) == asked(plain) + 1


def _positions(house: Store, *tasks: str) -> list[tuple[int, int | None]]:
    order = house.database.read(lambda tx: queue_snapshot.read_order(tx, house.settings))
    found = []
    for task_id in tasks:
        placed = order.placed(house.database.read(lambda tx, id_=task_id: task_views.get(tx, id_)))
        found.append((placed["queue_position"], placed["eta_seconds"]))
    return found


def _leads(house: Store) -> None:
    seen = house.database.read(leader.read)
    held = house.write(lambda tx: leader.take_over(tx, seen, "d"))
    house.write(lambda tx: leader.renew(tx, held))


def test_positions_and_estimates_consider_needs_and_offers(house: Store, admitted_task: Make) -> None:
    _leads(house)
    register(house, "cpu", slots=4)
    register(house, "gpu", slots=4, offers={"gpu": 1})
    for type_ in ("flux", "photography"):
        task_id = admitted_task(type_=type_)
        claim = next(each for each in house.dispatch() if each.task_id == task_id)
        house.write(lambda tx, each=claim: complete(tx, each.task_id, each.lease, []))
        house.write(
            lambda tx, id_=task_id: tx.execute(
                f"UPDATE task_queue SET processing_started_at = {tx.shifted('finished_at', '-10.0')} WHERE id = :id",
                id=id_,
            )
        )
    flux = [admitted_task(type_="flux") for _ in range(5)]
    plain = admitted_task()
    (third, eta_of_third), (behind, eta_behind) = _positions(house, flux[2], plain)
    assert (third, eta_of_third) == (2, 30), "one after the other"
    assert (behind, eta_behind) == (1, 10), "of the five before it only one can be in its way"
    house.write(lambda tx: workers.mark_dead(tx, "gpu"))
    (_, eta_of_third), (behind, eta_behind) = _positions(house, flux[2], plain)
    assert (eta_of_third, behind, eta_behind) == (None, 0, 10), "nobody takes them now"


def test_a_type_that_no_living_worker_takes_is_said_everywhere(house: Store, admitted_task: Make) -> None:
    _leads(house)
    register(house, "cpu")
    flux, plain = admitted_task(type_="flux"), admitted_task()

    def told() -> dict[str | None, str]:
        seen = house.database.read(lambda tx: overview.read(tx, house.settings))
        more = {"is_broker_up": True, "processes": []}
        return {each["subject"]: each["text"] for each in troubles({**seen, **more})}

    def why(task_id: str) -> dict[str, Any]:
        found = house.database.read(lambda tx: task_details.examine(tx, house.settings, task_id))
        assert found is not None
        return diagnose(found, position=0, eta_seconds=None)

    assert "gpu = 1" in told()["flux"] and "photography" not in told()
    assert why(flux)["code"] == "pending.no_worker_for_type" and "gpu = 1" in why(flux)["text"]
    assert why(plain)["code"] == "pending.unknown"
    now = house.database.read(lambda tx: gauges.read(tx, house.settings))
    assert (now.unplaceable["flux"], now.unplaceable["photography"], now.needed) == (1, 0, {"gpu": 1})
    register(house, "gpu", offers={"gpu": 2})
    house.dispatch("gpu")
    now = house.database.read(lambda tx: gauges.read(tx, house.settings))
    assert now.offers == {("gpu", "free"): 1, ("gpu", "held"): 1} and not any(now.unplaceable.values())
    assert "flux" not in told()


def test_of_two_dispatchers_that_take_over_from_each_other_none_gives_a_gpu_twice(
    house: Store, admitted_task: Make, producer: Plain
) -> None:
    register(house, "gpu-1", slots=9, offers={"gpu": 1})
    register(house, "gpu-2", slots=9, offers={"gpu": 1})
    tasks = [admitted_task(type_="flux") for _ in range(30)] + [admitted_task() for _ in range(10)]
    over, faults = threading.Event(), list[str]()

    def dispatch_as(name: str) -> None:
        while not over.is_set():
            seen = house.database.read(leader.read)
            held = house.write(lambda tx, seen=seen: leader.take_over(tx, seen, name))
            if held is None:
                continue

            def decide(tx: Any, held: leader.Leadership = held) -> None:
                if leader.is_held(tx, held).get():
                    dispatch.pick_and_claim(tx, house.settings)

            house.write(decide)

    def end_what_runs() -> None:
        """Looks before each end whether any worker has two."""
        while not over.is_set():
            held = house.all("SELECT id, lease, worker_id, type FROM task_queue WHERE status = 'processing'")
            with_gpu = [row["worker_id"] for row in held if row["type"] == "flux"]
            if len(with_gpu) != len(set(with_gpu)):
                faults.append(f"two at once: {held}")
            for row in held[:2]:
                house.write(lambda tx, row=row: complete(tx, row["id"], row["lease"], []))
            if house.value("SELECT count(*) FROM task_queue WHERE status = 'completed'") == len(tasks):
                over.set()

    def guarded(work: Callable[..., None], *args: Any) -> None:
        try:
            work(*args)
        except BaseException as error:  # noqa: BLE001  told below
            faults.append(repr(error))
            over.set()

    crew = [threading.Thread(target=guarded, args=(dispatch_as, name), daemon=True) for name in ("a", "b")]
    crew.append(threading.Thread(target=guarded, args=(end_what_runs,), daemon=True))
    for each in crew:
        each.start()
    assert over.wait(120), "everything ends"
    for each in crew:
        each.join(20)
    assert faults == []


def test_a_room_matches_its_row(house: Store) -> None:
    register(house, "gpu", slots=3, offers={"gpu": 2, "vram": 0}, types=["flux"])
    (row,) = house.database.read(workers.present)
    from supervisor.core.placement import room_of

    assert room_of(row) == Room("gpu", 3, {"gpu": 2}, frozenset({"flux"}))
