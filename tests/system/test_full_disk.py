"""Paid results are kept until there is room: a real system, a real full disk, a real service."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from supervisor.objects.disk_space import WAITING
from tests.support.command_line import darkroom
from tests.support.fakes.fake_ai_service import Asked, FakeAiService, Reply, http_type, picture_reply
from tests.support.fakes.fal_service import Fal
from tests.support.hosts.small_disk import SmallDisk, may_mount, small_disk
from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not may_mount() and "CI" not in os.environ, reason="only root may mount a disk"),
]
LIMITS = {"AI_TIMEOUT_SECONDS": "20", "TIME_LIMIT_SECONDS": "25", "REMOTE_LIMIT_SECONDS": "25"}
LONGER_SECONDS = 30.0  # than each of them with its grace, and than the lease
DISK_MEBIBYTES = 24


def noise(side: int = 400) -> bytes:
    """A JPEG of about a byte a pixel."""
    file = io.BytesIO()
    Image.effect_noise((side, side), 90).convert("RGB").save(file, "JPEG", quality=95)
    return file.getvalue()


@contextlib.contextmanager
def shop_on(
    disk: SmallDisk, what: str, tmp_path: Path, service: FakeAiService, fal: Fal
) -> Iterator[RunningSystem]:
    """what: lies on the small disk, `files` or `everything`."""
    settings = http_type(service, "held", MAY_BILL_TWICE="false") | {
        "CREDITS__ENABLED": "true",
        "WORKER_PROCESSES": "1",
        "LEASE_SECONDS": "6",
        "STUCK_GRACE_SECONDS": "1",
        "LOG_LEVEL": "info",
        "TASKS__asked__PROVIDER": "asked",
        "PROVIDERS__asked__PRESET": "fal",
        "PROVIDERS__asked__URL": fal.url,
        "PROVIDERS__asked__SECRETS__KEY": "id:key",
        "PROVIDERS__asked__POLL__INTERVAL": "[0.2, 0.5]",
        "PROVIDERS__asked__ALLOW_PRIVATE_ADDRESSES": "true",
        "PROVIDERS__asked__MAY_BILL_TWICE": "false",
    }
    settings |= {
        f"TASKS__{type_}__{name}": value for type_ in ("held", "asked") for name, value in LIMITS.items()
    }
    settings["TASKS__photography__TIME_LIMIT_SECONDS"] = "60"
    if what == "files":
        settings["STORAGE_URL"] = f"file://{disk.folder}/files"
    above = disk.folder if what == "everything" else tmp_path
    with running_system(above, log=tmp_path / "log", **settings) as system:
        yield system


@contextlib.contextmanager
def house_on_small_disk(
    tmp_path: Path, what: str
) -> Iterator[tuple[SmallDisk, FakeAiService, Fal, RunningSystem]]:
    with (
        small_disk(tmp_path / "disk", DISK_MEBIBYTES) as disk,
        FakeAiService() as service,
        Fal() as fal,
        shop_on(disk, what, tmp_path, service, fal) as shop,
    ):
        yield disk, service, fal, shop


def stays_full(shop: RunningSystem, what: str, task: str, status: str) -> None:
    """Returns when every limit has passed and the task is where it was."""
    until = time.monotonic() + LONGER_SECONDS
    if what == "files":  # else the database can't be written either
        eventually("its stage says so", lambda: shop.task(task)["stage"] == WAITING)
        shown = darkroom(shop.data_dir, "show", task, **shop.environ).stdout
        assert "Its worker lives and is waiting for disk space" in " ".join(shown.split())
    eventually("every limit has passed", lambda: time.monotonic() > until)
    if what == "files":
        assert darkroom(shop.data_dir, "sweep", **shop.environ).returncode == 0
    assert shop.task(task)["status"] == status


@pytest.mark.parametrize("what", ["files", "everything"])
def test_an_answer_that_comes_to_a_full_disk_is_stored_when_there_is_room(tmp_path: Path, what: str) -> None:
    with house_on_small_disk(tmp_path, what) as (disk, service, _, shop):

        def reply(asked: Asked) -> Reply:
            disk.fill()
            return picture_reply(noise())

        service.reply = reply
        task = shop.order("held")
        eventually("the service has answered", lambda: service.answered == 1)
        stays_full(shop, what, task, "processing")
        disk.make_room()
        assert shop.ends(task, 60) == "completed", shop.task(task)["error"]
        assert shop.evidence(task) == ["done"] and len(service.asked) == 1
        assert shop.booked(task) == [("debit", -1)]
        assert (shop.task(task)["attempt"], shop.task(task)["failures"]) == (1, 0)


@pytest.mark.parametrize("what", ["files", "everything"])
def test_a_remote_job_that_ends_on_a_full_disk_is_waited_for(tmp_path: Path, what: str) -> None:
    with house_on_small_disk(tmp_path, what) as (disk, _, fal, shop):
        fal.states = ["IN_PROGRESS"]
        task = shop.order("asked")
        eventually("the service has it", lambda: shop.task(task)["status"] == "ai_processing")
        disk.fill()
        fal.states = ["COMPLETED"]
        stays_full(shop, what, task, "ai_processing")
        disk.make_room()
        assert shop.ends(task, 60) == "completed", shop.task(task)["error"]
        assert shop.evidence(task) == ["done"] and shop.booked(task) == [("debit", -1)]


def test_the_studio_waits_for_room_too(tmp_path: Path) -> None:
    with house_on_small_disk(tmp_path, "files") as (disk, _, _, shop):
        portrait = shop.upload_sample()
        disk.fill()
        task = shop.order("photography", images=[portrait])
        eventually("its stage says so", lambda: shop.task(task)["stage"] == WAITING)
        disk.make_room()
        assert shop.ends(task, 60) == "completed", shop.task(task)["error"]
        assert (shop.task(task)["attempt"], shop.task(task)["failures"]) == (1, 0)


def test_every_interface_answers_503_while_the_disk_is_full(tmp_path: Path) -> None:
    """A full disk is no fault of the request: 503 with Retry-After for an upload and an order; later both are
    accepted."""
    with house_on_small_disk(tmp_path, "everything") as (disk, _, _, shop):
        picture = noise(1200)
        order = json.dumps(
            {"type": "held", "params": {"images": [shop.upload_sample()], "prompt": "x"}}
        ).encode()
        doors = [("images", picture, "image/jpeg")] + [("tasks", order, "application/json")] * 200
        refused = set()
        for place, body, type_ in doors:
            disk.fill()
            status, retry_after = _posted(f"{shop.url}/v1/{place}", body, type_)
            assert status in (201, 202, 503), (place, status)
            if status == 503:
                assert retry_after and int(retry_after) > 0
                refused.add(place)
            if place in refused and place == "tasks":
                break  # until then SQLite had room of its own in its files
        assert "images" in refused
        assert _log_bytes_a_second(tmp_path / "log", disk) < 1024
        disk.make_room()
        assert _posted(f"{shop.url}/v1/images", picture, "image/jpeg")[0] == 201
        assert eventually(
            "orders are taken again",
            lambda: _posted(f"{shop.url}/v1/tasks", order, "application/json")[0] == 202,
        )


def _log_bytes_a_second(log: Path, disk: SmallDisk, seconds: float = 10.0) -> float:
    """What all parts together write while the disk stays full."""
    before, began = log.stat().st_size, time.monotonic()
    until = began + seconds
    eventually("some time has passed", lambda: disk.fill() or time.monotonic() > until)
    return (log.stat().st_size - before) / (time.monotonic() - began)


def _posted(url: str, body: bytes, type_: str) -> tuple[int, str | None]:
    request = urllib.request.Request(url, body, {"Content-Type": type_})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, None
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("Retry-After")
