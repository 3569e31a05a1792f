"""`darkroom up` as a whole, with kill -9: who is back how soon, and that nobody is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.houses.whole_house import DARKROOM, PORTRAIT, House, eventually, needs_darkroom

pytestmark = needs_darkroom


@pytest.fixture
def house() -> Iterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="dk-house-"))
    home = House(folder)
    try:
        yield home
    finally:
        home.end()
        shutil.rmtree(folder, ignore_errors=True)


def test_in_ps_the_parts_are_what_they_are(house):
    lines = [" ".join(process.cmdline()) for process in house.everybody()]
    for part in ("dramatiq actors", "periodiq actors", "darkroom web", "darkroom dispatcher"):
        assert any(part in line for line in lines), part
    assert (house.folder / "url").read_text().strip() == house.address


def test_the_work_of_a_killed_worker_begins_again_within_a_second(house):
    for whom in ("worker", "its master"):
        task_id, worker_id = house.running_task()
        (pid,) = house.one("SELECT pid FROM worker WHERE id = ?", worker_id)
        killed_at = time.monotonic()
        os.kill(pid if whom == "worker" else psutil.Process(pid).ppid(), signal.SIGKILL)
        eventually(
            f"claimed again after {whom} was killed",
            lambda: house.one("SELECT 1 FROM task_queue WHERE id = ? AND lease > 1", task_id),  # noqa: B023
        )
        assert time.monotonic() - killed_at < 1.0
        eventually("everybody is back", house.all_ready)


def test_every_part_that_is_killed_comes_back(house):
    for name in ("broker", "web", "dispatcher", "scheduler"):
        pid = house.state()[name]["pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(f"another {name}", lambda: house.state()[name]["pid"] not in (None, pid))  # noqa: B023
    eventually("all ready", house.all_ready)
    assert house.post("/v1/images", PORTRAIT.read_bytes(), "image/png")["id"]
    assert not [process for process in house.everybody() if process.status() == psutil.STATUS_ZOMBIE]


def test_kill_9_of_the_supervisor_leaves_nobody_even_at_work(house):
    house.running_task()
    everybody = house.everybody()
    house.process.kill()
    house.process.wait()
    psutil.wait_procs(everybody, timeout=8)
    assert not [one for one in everybody if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_the_first_signal_drains_and_ends_with_status_0(house):
    everybody = house.everybody()
    house.process.send_signal(signal.SIGTERM)
    assert house.process.wait(timeout=30) == 0
    assert not [one for one in everybody if one.is_running()]
    assert not (house.folder / "url").exists()


def test_the_second_signal_stops_at_once(house):
    house.running_task()
    house.process.send_signal(signal.SIGINT)
    eventually("it drains", lambda: "draining" in house.said())
    house.process.send_signal(signal.SIGINT)
    asked_at = time.monotonic()
    house.process.wait(timeout=30)
    assert time.monotonic() - asked_at < 2.0


def test_two_ups_on_one_folder_are_refused_with_a_sentence(house):
    second = subprocess.run(
        [str(DARKROOM), "up"], env=house.environ, capture_output=True, text=True, timeout=30
    )
    assert second.returncode == 2
    assert f"process {house.process.pid}" in second.stderr and second.stderr.count("\n") == 1


def test_a_taken_port_is_said_in_a_sentence(house, tmp_path):
    port = house.address.rsplit(":", 1)[1]
    environ = {**house.environ, "DARKROOM_DATA_DIR": str(tmp_path), "DARKROOM_PORT": port}
    second = subprocess.run([str(DARKROOM), "up"], env=environ, capture_output=True, text=True, timeout=30)
    assert second.returncode == 2
    assert f"DARKROOM_PORT is {port}" in second.stderr and second.stderr.count("\n") == 1
