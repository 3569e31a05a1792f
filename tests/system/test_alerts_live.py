"""A real Prometheus beside a real system: every panel shows something, every alert fires by its fault and not without.

Rules wait forty times less than in production. So this shows that each expression, label and threshold fits the
system's real metrics; promtool checks the real waits (`test_watching`). Thresholds other than times are those of
production. So are the times of the sweep and of webhooks: there the test sets the records back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from metrics.monitoring.alerts import ALERTS
from metrics.monitoring.panels import ROWS
from metrics.monitoring.shapes import at_pace, selected
from supervisor.cli.up import free_port
from supervisor.processes.parent_death import dying_with_us
from tests.support.clients.alert_days import LIVING
from tests.support.houses.instant_house import INSTANT
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.prometheus_server import SCRAPE_MS, prometheus_server, until_firing, until_silent
from tests.support.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

PACE = 40.0
SLOTS = 4
BETWEEN_TASKS_SECONDS = 0.5
REFUSING = "tests.support.providers.refusing_provider:RefusingProvider"
# Their faults need a disk, a clock or a time of their own. promtool tests them on its day (`test_watching`), and `make
# on-call` tests the others beside a real system.
ELSEWHERE = {
    "DarkroomClockOff",
    "DarkroomDatabaseFull",
    "DarkroomDeadlyTask",
    "DarkroomDiskFull",
    "DarkroomDiskLow",
    "DarkroomDispatcherSilent",
    "DarkroomFeedStorm",
    "DarkroomQueueFull",
    "DarkroomRateLimited",
    "DarkroomTaskUnmoved",
    "DarkroomTypeFailsSlowly",
}
SETTINGS = {
    **INSTANT,
    "TASKS__slow__PROVIDER": "slow",
    "PROVIDERS__slow__KIND": "python",
    "PROVIDERS__slow__OPTIONS__class": "tests.support.providers.instant_provider:InstantProvider",
    "PROVIDERS__slow__OPTIONS__wait_seconds": "300",
    "TASKS__painted__PROVIDER": "painter",
    "TASKS__painted__NEEDS__gpu": "1",
    "TASKS__twice__STEPS": '[{"name":"first","provider":"instant"},{"name":"second","provider":"instant"}]',
    "TASKS__huge__PROVIDER": "painter",
    "TASKS__huge__NEEDS__gpu": "2",
    "PROVIDERS__painter__KIND": "python",
    "PROVIDERS__painter__OPTIONS__class": "tests.support.providers.instant_provider:InstantProvider",
    "PROVIDERS__painter__OPTIONS__cost": "0.03",
    "PROVIDERS__painter__COST_UNIT": "USD",
    "WORKER_OFFERS__gpu": "1",
    "TASKS__spoiled__PROVIDER": "prude",
    "PROVIDERS__prude__KIND": "python",
    "PROVIDERS__prude__OPTIONS__class": REFUSING,
    "PROVIDERS__prude__OPTIONS__says": "rejected",
    "TASKS__locked__PROVIDER": "locked",
    "PROVIDERS__locked__KIND": "python",
    "PROVIDERS__locked__OPTIONS__class": REFUSING,
    "PROVIDERS__locked__OPTIONS__says": "down",
    "CREDITS__SIGNUP_GRANT": "100000",
    "WEBHOOKS__ALLOW_PRIVATE_ADDRESSES": "true",
    "WORKER_PROCESSES": "1",
    "WORKER_THREADS": str(SLOTS),
    "LEASE_SECONDS": "3",
    "HEARTBEAT_SECONDS": "1",
    "LOG_LEVEL": "error",
}


class Trouble:
    """A running system, its requests and its faults."""

    def __init__(self, system: RunningSystem) -> None:
        self.system = system
        self.image = system.upload_sample()

    def submit(self, type_: str, count: int = 1, **more: str) -> list[str]:
        """Task ids.  more: further members of the order."""
        return [self.system.order(type_, images=[self.image], more=more) for _ in range(count)]

    def cancel(self, task_id: str) -> None:
        self.system.cancel(task_id)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.system.sql(statement)

    def pid(self, name: str) -> int:
        return self.system.pids()[name]

    def kill(self, name: str) -> None:
        """Returns when another one is there."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        eventually(f"another {name}", lambda: self.pid(name) not in (0, pid))

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """In the block a process and all its children are frozen, but not while they hold the writers' lock: that is
        another fault, with another alert."""
        leader = psutil.Process(self.pid(name))
        frozen = [leader, *leader.children(recursive=True)]
        try:
            while True:
                for process in frozen:
                    process.suspend()
                if self._others_can_write():
                    break
                for process in frozen:
                    process.resume()
            yield
        finally:
            for process in frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def lag(self) -> None:
        """A task begins while web stands still, so its changes reach their reader that much later.

        Not for long at a time: Prometheus must see in one window how it was before and after.
        """
        with self.frozen("web"):
            self.sql(
                "INSERT INTO task_queue (user_openid, type, params) SELECT 'demo', 'instant', json_object('images',"
                " json_array(id)) FROM image LIMIT 1"
            )
            time.sleep(2.5)  # this is the fault: more than the alert allows
        time.sleep(2 * SCRAPE_MS / 1000)

    def _others_can_write(self) -> bool:
        deadline = time.monotonic() + 1.0
        with (self.system.data_dir / "darkroom.db.lock").open() as lock:
            while time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
                time.sleep(0.01)
        return False

    @contextlib.contextmanager
    def missing(self, table: str) -> Iterator[None]:
        """A table is away in the block."""
        self.sql(f"ALTER TABLE {table} RENAME TO {table}_away")
        try:
            yield
        finally:
            self.sql(f"ALTER TABLE {table}_away RENAME TO {table}")


@contextlib.contextmanager
def repeated(act: Callable[[], object], seconds: float) -> Iterator[None]:
    """Something is done again and again until the block ends; that it fails in the midst of a fault is no matter."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            with contextlib.suppress(OSError):
                act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


@contextlib.contextmanager
def listening(url: str) -> Iterator[None]:
    """A client reads the feed until the block ends."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/v1/works/feed", timeout=60) as stream:

        def read() -> None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                while stream.readline():
                    pass

        threading.Thread(target=read, daemon=True).start()
        yield


def expressions() -> list[str]:
    """Of every panel, as Grafana would send them with everything chosen."""
    return [
        re.sub(r"\$(job|type)", ".*", at_pace(selected(expr.removesuffix(LIVING)), PACE))
        for row in ROWS
        for panel in row.panels
        for expr in panel.lines.values()
    ]


def test_every_panel_shows_something_and_every_alert_but_the_disks_fires_by_its_fault_alone() -> None:
    fired: list[str] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dk-prom-")))
        running = contextlib.ExitStack()
        stack.push(running.__exit__)
        system = running.enter_context(running_system(**SETTINGS))
        trouble = Trouble(system)
        target = system.url.removeprefix("http://")
        server = stack.enter_context(prometheus_server(folder, target, pace=PACE))
        missing = set(expressions())

        def all_panels_show_something() -> bool:
            missing.difference_update({expr for expr in missing if server.tells_something(expr)})
            return not missing

        load = repeated(
            lambda: [trouble.submit(type_) for type_ in ("instant", "painted", "twice")],
            2 * BETWEEN_TASKS_SECONDS,
        )
        with load, listening(system.url), contextlib.suppress(AssertionError):
            trouble.submit("spoiled")
            eventually("every panel shows something", all_panels_show_something)
        assert not missing, missing
        until_silent(server)

        def fires(alert: str) -> None:
            until_firing(server, alert)
            fired.append(alert)

        def is_silent(alert: str) -> None:
            eventually(f"{alert} is silent before its fault", lambda: alert not in server.firing())

        with trouble.frozen("scheduler"):
            is_silent("DarkroomSweepSilent")
            trouble.sql(
                "UPDATE sweep_run SET finished_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-600 seconds')"
            )
            fires("DarkroomSweepSilent")

            is_silent("DarkroomStuckTasks")
            (slow,) = trouble.submit("slow")
            its_row = f"SELECT 1 FROM task_queue WHERE id = '{slow}' AND status = 'processing'"
            eventually("it runs", lambda: trouble.sql(its_row))
            with trouble.frozen("dispatcher"):
                trouble.kill("worker-1")
                fires("DarkroomStuckTasks")
            trouble.cancel(slow)

        is_silent("DarkroomQueueOld")
        slow_ones = trouble.submit("slow", SLOTS + 1)
        fires("DarkroomQueueOld")
        for task_id in slow_ones:
            trouble.cancel(task_id)

        is_silent("DarkroomBreakerOpen")
        locked = trouble.submit("locked", 6)
        fires("DarkroomBreakerOpen")
        for task_id in locked:
            trouble.cancel(task_id)
        trouble.sql(
            "DELETE FROM provider_state"
        )  # no task tries it any more, and its next try is minutes away

        is_silent("DarkroomWebhooksLate")
        trouble.submit("instant", webhook=f"http://127.0.0.1:{free_port('127.0.0.1')}/nobody-listens")
        eventually(
            "an attempt failed", lambda: trouble.sql("SELECT 1 FROM webhook_delivery WHERE attempts > 0")
        )
        trouble.sql(
            "UPDATE webhook_delivery SET created_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-2 hours')"
        )
        fires("DarkroomWebhooksLate")
        trouble.sql("DELETE FROM webhook_delivery")

        is_silent("DarkroomListenerDown")
        with listening(system.url), trouble.missing("work_change"):
            fires("DarkroomListenerDown")

        is_silent("DarkroomDatabaseDown")
        with trouble.missing("sweep_run"):
            fires("DarkroomDatabaseDown")

        is_silent("DarkroomBrokerDown")
        with trouble.frozen("broker"):
            fires("DarkroomBrokerDown")

        is_silent("DarkroomNoWorkers")
        with trouble.frozen("worker-1"):
            fires("DarkroomNoWorkers")

        until_silent(server)
        is_silent("DarkroomFeedLag")
        with listening(system.url), repeated(trouble.lag, 0.0):
            fires("DarkroomFeedLag")

        is_silent("DarkroomNoWorkerForType")
        (unplaceable,) = trouble.submit("huge")
        fires("DarkroomNoWorkerForType")
        trouble.cancel(unplaceable)
        until_silent(server)

        is_silent("DarkroomTypeFails")
        trouble.submit("spoiled", 15)
        fires("DarkroomTypeFails")

        is_silent("DarkroomCrashLoop")
        for _ in range(5):
            trouble.kill("dispatcher")
        fires("DarkroomCrashLoop")

        is_silent("DarkroomDown")
        running.close()
        fires("DarkroomDown")
    assert {*fired, *ELSEWHERE} == {alert.name for alert in ALERTS}


ON_A_SMALL_DISK = 'mount -t tmpfs -o size=64m tmpfs "$0" && "$1" migrate >/dev/null && exec "$1" web'


def test_a_disk_that_fills_up_is_reported_before_it_is_full(tmp_path: Path) -> None:
    """A web part with a data folder on a disk of 64 MB, mounted in a namespace of its own."""
    disk, port = tmp_path / "disk", free_port("127.0.0.1")
    disk.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    environ |= {"DARKROOM_DATA_DIR": str(disk), "DARKROOM_PORT": str(port), "DARKROOM_CONFIG": ""}
    darkroom = Path(sys.executable).with_name("darkroom")
    process = subprocess.Popen(
        dying_with_us(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK, str(disk), str(darkroom)]
        ),
        env=environ,
        cwd=tmp_path,
    )
    inside = Path(f"/proc/{process.pid}/root{disk}")
    try:
        eventually("web serves", lambda: (inside / "url").exists())
        with prometheus_server(tmp_path, f"127.0.0.1:{port}", pace=PACE) as server:
            eventually("the disk is known", lambda: server.tells_something("darkroom_disk_size_bytes"))
            assert "DarkroomDiskLow" not in server.firing()
            room = os.statvfs(inside)
            filling = int(room.f_bavail * room.f_frsize - 0.05 * room.f_blocks * room.f_frsize)
            (inside / "filler").write_bytes(bytes(filling))
            until_firing(server, "DarkroomDiskLow")
            (inside / "filler").unlink()
            eventually("it is silent again", lambda: "DarkroomDiskLow" not in server.firing())
    finally:
        process.terminate()
        process.wait(30)
