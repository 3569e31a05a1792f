"""The parts as real processes: one worker offers a GPU; dispatchers are killed, then the worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from supervisor.cli.up import programs
from supervisor.database.open_database import open_database
from tests.support.houses.gpu_house import SAID_WITHIN_SECONDS, GpuHouse, gpu_house
from tests.support.houses.parts import Part
from tests.support.waiting import eventually

TASKS = 24

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=["sqlite", "postgresql"])
def parts(request: pytest.FixtureRequest) -> Iterator[GpuHouse]:
    with gpu_house(request.param) as opened:
        yield opened


def test_a_gpu_is_never_given_twice_though_dispatchers_are_killed(parts: GpuHouse) -> None:
    parts.plain_waits(TASKS, with_gpu=True, kills=True)
    assert parts.most_at_once() == 1


def test_the_death_of_the_gpus_worker_is_reported_and_its_task_runs_again(parts: GpuHouse) -> None:
    said, _ = parts.lose_the_gpu()
    assert said <= SAID_WITHIN_SECONDS


def test_an_idle_worker_leaves_in_good_order_when_it_was_asked_to(parts: GpuHouse, tmp_path: Path) -> None:
    settings = {
        name.removeprefix("DARKROOM_"): value
        for name, value in parts.gpu.environ.items()
        if name.startswith("DARKROOM_")
    }
    leaves = Part("worker", tmp_path / "leaves", settings | {"WORKER_EXIT_WHEN_IDLE_SECONDS": "1"})
    assert eventually("it ends", lambda: leaves.process.poll() is not None) and leaves.process.returncode == 0
    assert "--exit-when-idle" in leaves.said("worker_drains")
    rows = parts.database.read(lambda tx: tx.all("SELECT state FROM worker ORDER BY id"))
    assert [row["state"] for row in rows] == ["live", "live", "gone"]


def test_up_gives_the_offers_to_its_first_worker_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, worker_processes=3, worker_offers={"gpu": 1})
    database = open_database(settings)
    try:
        started = {each.spec.name: each.environ for each in programs(settings, database)}
    finally:
        database.close()
    given = [started[f"worker-{n}"].get("DARKROOM_WORKER_OFFERS__gpu") for n in (1, 2, 3)]
    assert given == [None, "0", "0"], "the first has what its own settings say"
