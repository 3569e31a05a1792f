"""`darkroom up` as a whole, with kill -9: how soon each part is back, and that no process is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.houses.whole_house import DARKROOM, PORTRAIT, House, needs_darkroom
from tests.support.waiting import eventually

# So long that nothing happens by time alone during a test: another event must cause it.
PATIENT = {"DARKROOM_LEASE_SECONDS": "600", "DARKROOM_DRAIN_SECONDS": "600"}

pytestmark = needs_darkroom


@contextlib.contextmanager
def opened() -> Iterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="dk-house-"))
    home = House(folder, **PATIENT)
    try:
        yield home
    finally:
        home.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[House]:
    with opened() as home:
        yield home


@pytest.fixture
def house(shared: House) -> House:
    """The shared house, whole again after what the last test did to it."""
    eventually("everybody is back", shared.all_ready)
    return shared


@pytest.fixture
def own_house() -> Iterator[House]:
    """For a test that ends it."""
    with opened() as home:
        yield home


def test_in_ps_each_part_has_its_name(house):
    lines = [" ".join(process.cmdline()) for process in house.everybody()]
    for part in ("dramatiq actors", "periodiq actors", "darkroom web", "darkroom dispatcher"):
        assert any(part in line for line in lines), part
    assert (house.folder / "url").read_text().strip() == house.address


def test_the_parts_hold_what_they_import_once(house):
    for name in ("worker-1", "worker-2", "dispatcher", "web", "scheduler"):
        memory = psutil.Process(house.state()[name]["pid"]).memory_full_info()
        assert memory.uss < memory.rss / 2, f"{name} was not forked from a process that had imported its code"


def test_the_tasks_of_a_killed_worker_run_again_when_the_supervisor_sees_the_exit(house):
    for whom in ("worker", "its master"):
        task_id, worker_id = house.running_task()
        (pid,) = house.one("SELECT pid FROM worker WHERE id = ?", worker_id)
        os.kill(pid if whom == "worker" else psutil.Process(pid).ppid(), signal.SIGKILL)
        eventually(
            f"claimed again after {whom} was killed",
            lambda: house.one("SELECT 1 FROM task_queue WHERE id = ? AND lease > 1", task_id),  # noqa: B023
        )
        eventually("everybody is back", house.all_ready)


def test_every_part_that_is_killed_comes_back(house):
    for name in ("broker", "web", "dispatcher", "scheduler"):
        pid = house.state()[name]["pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(f"another {name}", lambda: house.state()[name]["pid"] not in (None, pid))  # noqa: B023
    eventually("all ready", house.all_ready)
    assert house.post("/v1/images", PORTRAIT.read_bytes(), "image/png")["id"]
    assert not [process for process in house.everybody() if process.status() == psutil.STATUS_ZOMBIE]


def test_kill_9_of_the_supervisor_leaves_no_process_even_during_work(own_house):
    own_house.running_task()
    everybody = own_house.everybody()
    own_house.process.kill()
    own_house.process.wait()
    psutil.wait_procs(everybody, timeout=90)
    assert not [one for one in everybody if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_the_first_signal_drains_and_ends_with_status_0(own_house):
    everybody = own_house.everybody()
    own_house.process.send_signal(signal.SIGTERM)
    assert own_house.process.wait(timeout=90) == 0
    assert not [one for one in everybody if one.is_running()]
    assert not (own_house.folder / "url").exists()


def test_the_second_signal_stops_at_once(own_house):
    own_house.running_task()
    own_house.process.send_signal(signal.SIGINT)
    eventually("it drains", lambda: "draining" in own_house.said())
    own_house.process.send_signal(signal.SIGINT)
    own_house.process.wait(timeout=90)  # less than DRAIN_SECONDS


def test_two_ups_on_one_folder_are_refused_with_a_sentence(house):
    second = subprocess.run(
        [str(DARKROOM), "up"], env=house.environ, capture_output=True, text=True, timeout=90
    )
    assert second.returncode == 2
    assert f"process {house.process.pid}" in second.stderr and second.stderr.count("\n") == 1


def test_a_taken_port_is_reported_in_a_sentence(house, tmp_path):
    port = house.address.rsplit(":", 1)[1]
    environ = {**house.environ, "DARKROOM_DATA_DIR": str(tmp_path), "DARKROOM_PORT": port}
    second = subprocess.run([str(DARKROOM), "up"], env=environ, capture_output=True, text=True, timeout=90)
    assert second.returncode == 2
    assert f"DARKROOM_PORT is {port}" in second.stderr and second.stderr.count("\n") == 1
