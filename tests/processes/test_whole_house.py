"""`darkroom up` as a whole, with kill -9: how soon each part is back, and that no process is left."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually

# So long that nothing happens by time alone during a test: another event must cause it.
PATIENT = {"LEASE_SECONDS": "600", "DRAIN_SECONDS": "600"}

ENDLESS = {
    "WORKER_THREADS": "2",
    "TASKS__endless__PROVIDER": "endless",
    "PROVIDERS__endless__KIND": "python",
    "PROVIDERS__endless__OPTIONS__class": "tests.support.providers.instant_provider:InstantProvider",
    "PROVIDERS__endless__OPTIONS__wait_seconds": "3600",
}


def opened(folder: Path) -> contextlib.AbstractContextManager[RunningSystem]:
    return running_system(log=folder / "log", LOG_LEVEL="info", **PATIENT, **ENDLESS)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    with opened(tmp_path_factory.mktemp("house")) as home:
        yield home


@pytest.fixture
def house(shared: RunningSystem) -> RunningSystem:
    """The shared house, whole again after what the last test did to it."""
    eventually("everybody is back", shared.all_ready)
    return shared


@pytest.fixture
def own_house(tmp_path: Path) -> Iterator[RunningSystem]:
    """For a test that ends it."""
    with opened(tmp_path) as home:
        yield home


def running_task(house: RunningSystem) -> tuple[str, psutil.Process]:
    """A task at work that does not end, and its worker's process."""
    task_id = house.order("endless")
    house.reaches(task_id, "processing")
    return task_id, house.worker_of(task_id)


def test_in_ps_each_part_has_its_name(house):
    lines = [" ".join(process.cmdline()) for process in house.descendants()]
    for part in ("dramatiq actors", "periodiq actors", "darkroom web", "darkroom dispatcher"):
        assert any(part in line for line in lines), part
    assert (house.data_dir / "url").read_text().strip() == house.url


def test_the_parts_hold_what_they_import_once(house):
    for name in ("worker-1", "worker-2", "dispatcher", "web", "scheduler"):
        memory = psutil.Process(house.parts()[name]["pid"]).memory_full_info()
        assert memory.uss < memory.rss / 2, f"{name} was not forked from a process that had imported its code"


def test_the_tasks_of_a_killed_worker_run_again_when_the_supervisor_sees_the_exit(house):
    for whom in ("worker", "its master"):
        task_id, worker = running_task(house)
        (worker if whom == "worker" else worker.parent()).kill()
        eventually(
            f"claimed again after {whom} was killed",
            lambda: house.one("SELECT 1 FROM task_queue WHERE id = ? AND lease > 1", task_id),  # noqa: B023
        )
        eventually("everybody is back", house.all_ready)


def test_every_part_that_is_killed_comes_back(house):
    for name in ("broker", "web", "dispatcher", "scheduler"):
        pid = house.parts()[name]["pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(f"another {name}", lambda: house.parts()[name]["pid"] not in (None, pid))  # noqa: B023
    eventually("all ready", house.all_ready)
    assert house.upload_sample()
    assert not [process for process in house.descendants() if process.status() == psutil.STATUS_ZOMBIE]


def test_kill_9_of_the_supervisor_leaves_no_process_even_during_work(own_house):
    running_task(own_house)
    everybody = own_house.descendants()
    own_house.kill()
    psutil.wait_procs(everybody, timeout=90)
    assert not [one for one in everybody if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_the_first_signal_drains_and_ends_with_status_0(own_house):
    everybody = own_house.descendants()
    own_house.process.send_signal(signal.SIGTERM)
    assert own_house.process.wait(timeout=90) == 0
    assert not [one for one in everybody if one.is_running()]
    assert not (own_house.data_dir / "url").exists()


def test_the_second_signal_stops_at_once(own_house):
    running_task(own_house)
    own_house.process.send_signal(signal.SIGINT)
    eventually("it drains", lambda: "draining" in own_house.said())
    own_house.process.send_signal(signal.SIGINT)
    own_house.process.wait(timeout=90)  # less than DRAIN_SECONDS


def test_two_ups_on_one_folder_are_refused_with_a_sentence(house):
    second = house.darkroom("up", timeout=90)
    assert second.returncode == 2
    assert f"process {house.pid}" in second.stderr and second.stderr.count("\n") == 1


def test_a_taken_port_is_reported_in_a_sentence(house, tmp_path):
    port = house.url.rsplit(":", 1)[1]
    environ = {**house.environ, "DARKROOM_DATA_DIR": str(tmp_path), "DARKROOM_PORT": port}
    second = house.darkroom("up", env=environ, timeout=90)
    assert second.returncode == 2
    assert f"DARKROOM_PORT is {port}" in second.stderr and second.stderr.count("\n") == 1
