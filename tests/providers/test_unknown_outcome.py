"""Paid requests on a whole running system: what happens to one whose answer nobody hears.

Real processes, real signals, and a service outside of them that counts how often it is asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.fakes.fake_ai_service import Asked, FakeAiService, Reply, picture_reply
from tests.support.houses.ai_shop import SECRET, Shop, http_type
from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually

DRAIN_SECONDS = 2
AI_TIMEOUT_SECONDS = 8


def settings_for(service: FakeAiService) -> dict[str, str]:
    """Two types on one service: `careful` may not bill twice, and asks for one picture at a time; `easy` may."""
    settings = {
        "CREDITS__ENABLED": "true",
        "CREDITS__SIGNUP_GRANT": "100",
        "DRAIN_SECONDS": str(DRAIN_SECONDS),
        "LEASE_SECONDS": "6",
    }
    for name in ("careful", "easy"):
        settings |= {
            f"TASKS__{name}__AI_TIMEOUT_SECONDS": str(AI_TIMEOUT_SECONDS),
            f"TASKS__{name}__TIME_LIMIT_SECONDS": "60",
        }
    settings |= http_type(service, "careful", MAY_BILL_TWICE="false", SUBMIT__PICTURES_PER_REQUEST="1")
    return settings | http_type(service, "easy", MAY_BILL_TWICE="true")


@contextlib.contextmanager
def opened(**more: str) -> Iterator[Shop]:
    with FakeAiService() as service, running_system(**(settings_for(service) | more)) as system:
        yield Shop(system, service)


@pytest.fixture(scope="module")
def shared() -> Iterator[Shop]:
    with opened() as shop:
        yield shop


def slow_first(seconds: float) -> Callable[[Asked], Reply]:
    """The first request of a task is answered late, every other at once."""
    seen: set[str] = set()

    def reply(asked: Asked) -> Reply:
        task = asked.headers["X-Task"]
        late = task not in seen
        seen.add(task)
        return picture_reply(after_seconds=seconds if late else 0.0)

    return reply


@pytest.fixture
def shop(shared: Shop) -> Shop:
    shared.service.reply = slow_first(6)
    return shared


def test_a_worker_killed_in_mid_call_is_an_unknown_outcome_where_a_second_bill_is_not_allowed(shop):
    task = shop.order("careful")
    shop.in_mid_call(task).kill()
    assert shop.ends(task) == "failed"
    assert shop.error_code(task) == "unknown_outcome"
    assert shop.booked(task) == [("debit", -1), ("refund", 1)]
    assert shop.asked(task) == 1
    assert shop.evidence(task) == ["unknown"]
    assert shop.task(task)["attempt"] == 1


def test_a_worker_killed_in_mid_call_runs_it_again_where_a_second_bill_is_allowed(shop):
    task = shop.order("easy")
    shop.in_mid_call(task).kill()
    assert shop.ends(task) == "completed"
    assert shop.booked(task) == [("debit", -1)]
    assert shop.asked(task) == 2
    assert shop.evidence(task) == ["unknown", "done"]
    row = shop.task(task)
    assert (row["attempt"], row["deaths"], row["failures"]) == (2, 1, 0)


def test_an_answer_that_comes_in_time_is_one_request_and_one_debit(shop):
    task = shop.order("careful")
    assert shop.ends(task) == "completed"
    assert (shop.asked(task), shop.evidence(task)) == (1, ["done"])
    assert shop.booked(task) == [("debit", -1)]
    (image,) = json.loads(shop.task(task)["images"])
    assert (shop.system.data_dir / "files" / image["key"]).stat().st_size > 100


@pytest.mark.parametrize(("type_", "requests", "code"), [("careful", 1, "ai_timeout"), ("easy", 2, None)])
def test_no_answer_within_the_ai_time_out_follows_the_same_rule(shop, type_, requests, code):
    shop.service.reply = slow_first(60)
    task = shop.order(type_)
    shop.ends(task, 40)
    assert (shop.asked(task), shop.error_code(task)) == (requests, code)
    assert shop.evidence(task) == ["unknown", "done"][:requests]


def test_a_service_that_makes_one_picture_at_a_time_is_asked_for_each(shop):
    shop.service.reply = lambda asked: picture_reply()
    task = shop.order("careful", count=3)
    assert shop.ends(task) == "completed"
    assert (shop.asked(task), shop.evidence(task)) == (3, ["done"] * 3)
    rows = shop.all("SELECT reference FROM remote_job WHERE task_id = ? ORDER BY id", task)
    assert [row["reference"] for row in rows] == [f"{task}.1.1.{part}" for part in range(3)]
    assert len(json.loads(shop.task(task)["images"])) == 3
    assert shop.booked(task) == [("debit", -3)]


def test_a_cancel_in_mid_call_breaks_the_request_off(shop):
    before = shop.service.broken_off
    shop.service.reply = slow_first(60)
    task = shop.order("careful")
    shop.in_mid_call(task)
    request = urllib.request.Request(f"{shop.system.url}/v1/tasks/{task}/cancel", b"", method="POST")
    urllib.request.urlopen(request, timeout=10).close()
    eventually("the service is left alone", lambda: shop.service.broken_off == before + 1)
    eventually("it is written down", lambda: shop.evidence(task) == ["unknown"])
    assert shop.booked(task) == [("debit", -1), ("refund", 1)]


def test_the_services_key_is_in_no_row(shop):
    task = shop.order("careful")
    assert shop.ends(task) == "completed"
    assert any(asked.headers["Authorization"] == f"Bearer {SECRET}" for asked in shop.service.asked)
    with contextlib.closing(sqlite3.connect(shop.database)) as connection:
        assert SECRET not in "\n".join(connection.iterdump())
    files = [path for path in shop.system.data_dir.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def stop(system: RunningSystem) -> float:
    """Ask `up` to drain; seconds until it has ended."""
    process = psutil.Process(system.pid)
    os.kill(system.pid, signal.SIGTERM)
    began = time.monotonic()
    gone = lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE  # noqa: E731
    eventually("`up` has ended", gone)
    return time.monotonic() - began


def test_a_drain_lets_an_answer_come_that_must_not_be_paid_twice_and_gives_the_others_back():
    with opened() as shop:
        shop.service.reply = lambda asked: picture_reply(after_seconds=6)
        careful, easy = shop.order("careful"), shop.order("easy")
        shop.in_mid_call(careful), shop.in_mid_call(easy)
        seconds = stop(shop.system)
        assert DRAIN_SECONDS < seconds < DRAIN_SECONDS + AI_TIMEOUT_SECONDS + 5
        assert shop.task(careful)["status"] == "completed"
        assert (shop.asked(careful), shop.evidence(careful)) == (1, ["done"])
        row = shop.task(easy)
        assert (row["status"], row["failures"], row["deaths"]) == ("pending", 0, 0)
        assert (shop.service.broken_off, shop.evidence(easy)) == (1, ["unknown"])


def test_a_drain_begins_no_further_request_of_an_attempt():
    with opened() as shop:
        shop.service.reply = lambda asked: picture_reply(after_seconds=5)
        task = shop.order("careful", count=2)
        shop.in_mid_call(task)
        stop(shop.system)
        row = shop.task(task)
        assert (row["status"], row["failures"], row["deaths"]) == ("pending", 0, 0)
        assert (shop.asked(task), shop.evidence(task)) == (1, ["done"])
        assert len(shop.all("SELECT n FROM result_file WHERE task_id = ?", task)) == 1


def test_a_drain_waits_no_longer_than_the_ai_time_out():
    with opened() as shop:
        shop.service.reply = lambda asked: picture_reply(after_seconds=300)
        task = shop.order("careful")
        shop.in_mid_call(task)
        assert stop(shop.system) < DRAIN_SECONDS + AI_TIMEOUT_SECONDS + 5
        assert (shop.task(task)["status"], shop.error_code(task)) == ("failed", "ai_timeout")
        assert shop.booked(task) == [("debit", -1), ("refund", 1)]
        assert (shop.asked(task), shop.evidence(task)) == (1, ["unknown"])


def test_a_house_that_was_killed_in_mid_call_follows_the_rule_at_its_next_start():
    with opened() as shop:
        shop.service.reply = slow_first(300)
        careful, easy = shop.order("careful"), shop.order("easy")
        shop.in_mid_call(careful), shop.in_mid_call(easy)
        os.kill(shop.system.pid, signal.SIGKILL)
        eventually("the workers are gone", lambda: shop.service.broken_off == 2)
        darkroom = Path(sys.executable).with_name("darkroom")
        again = subprocess.Popen([darkroom, "up"], env=shop.system.environ, cwd=shop.system.data_dir)
        try:
            assert (shop.ends(careful), shop.error_code(careful)) == ("failed", "unknown_outcome")
            assert shop.ends(easy) == "completed"
            assert (shop.asked(careful), shop.asked(easy)) == (1, 2)
        finally:
            again.terminate()
            again.wait(30)
