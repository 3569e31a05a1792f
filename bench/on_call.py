"""The seconds until the person on call sees the right sentence: troubles are made in a real `darkroom up`, one by one.

`python -m bench.on_call` prints for each trouble the seconds until /ops has its code, until `darkroom show` gives the
right reason of a task that is held up, and until `darkroom tasks` says it on stderr.  Alerts are promtool's part
(`tests/support/clients/alert_days.py`).  The trouble of a full disk needs a disk of its own; it is left out where the
kernel refuses the mount.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from supervisor.security.tokens import make_user_token
from tests.support.running_system import RunningSystem, running_system

PATIENCE_SECONDS = 60.0
DISK_BYTES = 1_500_000_000
SETTINGS = {
    "CREDITS__ENABLED": "true",
    "CREDITS__SIGNUP_GRANT": "1000",
    "TASKS__moody__PROVIDER": "moody",
    "TASKS__moody__COST_CREDITS": "0",
    "TASKS__dear__PROVIDER": "moody",
    "TASKS__dear__COST_CREDITS": "5000",
    "PROVIDERS__moody__KIND": "python",
    "PROVIDERS__moody__MAY_BILL_TWICE": "true",
    "PROVIDERS__moody__OPTIONS__class": "tests.support.providers.moody_provider:MoodyProvider",
    "WEBHOOKS__ALLOW_PRIVATE_ADDRESSES": "true",
    "LIMITS__RUNNING_TASKS_PER_USER": "3",
    "LIMITS__OPEN_TASKS_PER_USER": "12",
    "LIMITS__PENDING_TASKS": "30",
    "WORKER_PROCESSES": "2",
    "WORKER_THREADS": "8",
    "LOG_LEVEL": "error",
}


@dataclasses.dataclass
class Told:
    """Seconds from the trouble's beginning; None for never, '-' where there is no such task."""

    page: float | None
    show: float | str | None
    tasks: float | None


class OnCall:
    """A running system and its faults."""

    def __init__(self, system: RunningSystem, mood: Path) -> None:
        self.system, self._mood = system, mood
        self._secret = (system.data_dir / "secret").read_text().strip()
        self.feel("well")
        self.images: dict[str, str] = {}

    def feel(self, mood: str) -> None:
        """What the service does with the next requests."""
        self._mood.write_text(mood)

    def ask(
        self, method: str, path: str, body: Any = None, *, user: str = "ops", role: str = "operator"
    ) -> Any:
        token = make_user_token(self._secret, user, ttl_seconds=600, role=role)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.system.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def order(self, user: str, type_: str = "moody", **more: Any) -> str:
        """A task's id."""
        if user not in self.images:
            self.images[user] = self.system.upload_sample(user)
        body = {"type": type_, "params": {"images": [self.images[user]]}, **more}
        return str(self.ask("POST", "/v1/tasks", body, user=user, role="user")["task_id"])

    def refused(self, user: str, type_: str = "moody", times: int = 3) -> None:
        for _ in range(times):
            with contextlib.suppress(urllib.error.HTTPError):
                self.order(user, type_)

    def sql(self, statement: str) -> list[Any]:
        return self.system.sql(statement)

    @contextlib.contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        """Processes, with all that they forked, stand still."""
        found: list[psutil.Process] = []
        for name, pid in self.system.pids().items():
            if name in names:
                leader = psutil.Process(pid)
                found += [leader, *leader.children(recursive=True)]
        for process in found:
            process.suspend()
        try:
            yield
        finally:
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def codes(self) -> set[str]:
        with contextlib.suppress(OSError, urllib.error.URLError):
            return {each["code"] for each in self.ask("GET", "/v1/ops/overview")["troubles"]}
        return set()

    def reason(self, task_id: str) -> str:
        with contextlib.suppress(OSError, urllib.error.URLError):
            return str(self.ask("GET", f"/v1/ops/tasks/{task_id}")["why"]["code"])
        return ""

    def said_by_tasks(self) -> str:
        darkroom = Path(sys.executable).with_name("darkroom")
        done = subprocess.run(
            [darkroom, "tasks", "--limit", "1"],
            env=self.system.environ,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stderr

    def told(self, code: str, mark: str, task_id: str = "", reasons: Sequence[str] = ()) -> Told:
        """Watch until all three say it.  code: of the trouble, or of several, by |; mark: of the sentence on stderr."""
        began = time.monotonic()

        def passed(is_so: Callable[[], bool]) -> float | None:
            while time.monotonic() - began < PATIENCE_SECONDS:
                if is_so():
                    return round(time.monotonic() - began, 1)
                time.sleep(0.2)
            return None

        found: dict[str, Any] = {"show": "-"}
        watches = {
            "page": lambda: not self.codes().isdisjoint(code.split("|")),
            "tasks": lambda: mark in self.said_by_tasks(),
        }
        if task_id:
            watches["show"] = lambda: self.reason(task_id) in reasons
        threads = [
            threading.Thread(target=lambda n=name, w=watch: found.__setitem__(n, passed(w)))  # type: ignore[misc]
            for name, watch in watches.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Told(found["page"], found["show"], found["tasks"])

    def until_well(self) -> None:
        """What waits or runs is cancelled, and the service is well."""
        self.feel("well")
        for (task_id,) in self.sql(
            "SELECT id FROM task_queue WHERE status IN ('pending','processing','ai_processing')"
        ):
            with contextlib.suppress(urllib.error.HTTPError):
                self.ask("POST", f"/v1/ops/tasks/{task_id}/cancel")
        self.sql("UPDATE provider_state SET breaker = 'closed', until = NULL, openings = 0, troubles = 0")
        self.sql("DELETE FROM user_notice")


def hung(on: OnCall) -> Told:
    for n in range(6):
        on.order(f"o-{n}")
    end = time.monotonic() + 20
    while (
        on.sql("SELECT count(*) FROM task_queue WHERE status = 'completed'")[0][0] < 6
        and time.monotonic() < end
    ):
        time.sleep(0.1)
    on.feel("hangs")
    return on.told("no_progress", "nothing new", on.order("o-7"), ("processing.asked",))


def fails_500(on: OnCall) -> Told:
    on.feel("500")
    ids = [on.order(f"o-{n}") for n in range(4)]
    return on.told("provider_trouble", "HTTP 500", ids[0], ("pending.failed", "failed"))


def too_many(on: OnCall) -> Told:
    on.feel("429")
    ids = [on.order(f"o-{n}") for n in range(4)]
    return on.told("rate_limited", "HTTP 429", ids[0], ("pending.rate_limited",))


def wrong_key(on: OnCall) -> Told:
    on.feel("key")
    return on.told("provider_down", "the key is wrong", on.order("o-1"), ("pending.provider",))


def no_credits(on: OnCall) -> Told:
    on.refused("o-poor", "dear")
    return on.told("no_credits", "lack of credits")


def at_limit(on: OnCall) -> Told:
    on.feel("hangs")
    ids = [on.order("o-busy") for _ in range(12)]
    on.refused("o-busy")
    return on.told("user_limit", "LIMITS__OPEN_TASKS_PER_USER", ids[-1], ("pending.user_limit",))


def poison(on: OnCall) -> Told:
    on.feel("poison")
    task_id = on.order("o-poison")
    return on.told("deadly_task", "Workers have died", task_id, ("pending.died", "pending.suspect"))


def paused_type(on: OnCall) -> Told:
    on.ask("POST", "/v1/ops/pauses", {"kind": "type", "name": "moody", "reason": "a test"})
    told = on.told("type_paused", "is paused", on.order("o-1"), ("pending.paused",))
    on.ask("DELETE", "/v1/ops/pauses/type/moody")
    return told


def paused_provider(on: OnCall) -> Told:
    on.ask("POST", "/v1/ops/pauses", {"kind": "provider", "name": "moody", "reason": "a test"})
    told = on.told("provider_paused", "is paused", on.order("o-1"), ("pending.provider_paused",))
    on.ask("DELETE", "/v1/ops/pauses/provider/moody")
    return told


def full_queue(on: OnCall) -> Told:
    on.feel("hangs")
    for n in range(60):
        on.refused(f"o-{n % 6}", times=1)
    return on.told("queue_full|queue_was_full", "LIMITS__PENDING_TASKS")


def frozen_broker(on: OnCall) -> Told:
    with on.frozen("broker"):
        reasons = ("pending.no_broker", "processing.unbegun")
        return on.told("broker_away", "broker does not answer", on.order("o-1"), reasons)


def frozen_dispatcher(on: OnCall) -> Told:
    with on.frozen("dispatcher"):
        return on.told("dispatcher_silent", "shown no beat", on.order("o-1"), ("pending.no_dispatcher",))


def frozen_workers(on: OnCall) -> Told:
    """Their supervisor ends them after 15 s; until others are there, there are none."""
    with on.frozen("worker-1", "worker-2"):
        task_id = on.order("o-1")
        return on.told("workers_silent|no_workers", "No worker takes tasks", task_id, ("pending.no_workers",))


def webhook_down(on: OnCall) -> Told:
    on.order("o-1", webhook="http://127.0.0.1:9/nobody-listens")
    return on.told("webhook_fails", "Webhooks to http://127.0.0.1:9")


def stuck_remote(on: OnCall) -> Told:
    on.feel("remote")
    task_id = on.order("o-1")
    while not on.sql(f"SELECT 1 FROM task_queue WHERE id = '{task_id}' AND status = 'ai_processing'"):
        time.sleep(0.1)
    on.sql(
        "UPDATE works SET updated_at = strftime('%Y-%m-%dT%H:%M:%fZ','now','-33 minutes')"
        f" WHERE task_id = '{task_id}'"
    )
    return on.told("remote_unmoved", "at AI services have shown nothing", task_id, ("ai_processing",))


def feed_storm(on: OnCall) -> Told:
    token = make_user_token(on._secret, "o-storm", ttl_seconds=600)
    over = threading.Event()

    def storm() -> None:
        while not over.is_set():
            request = urllib.request.Request(
                on.system.url + "/v1/works/feed", headers={"Authorization": f"Bearer {token}"}
            )
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as stream:
                stream.read(10)

    thread = threading.Thread(target=storm, daemon=True)
    thread.start()
    try:
        return on.told("user_storms", "storms us")
    finally:
        over.set()
        thread.join(10)


def free_type_fails(on: OnCall) -> Told:
    on.feel("rejects")
    ids = [on.order(f"o-{n % 6}") for n in range(24)]
    return on.told("type_fails", "have failed, most as", ids[0], ("failed",))


def silent_sweep(on: OnCall) -> Told:
    with on.frozen("scheduler"):
        on.sql("UPDATE sweep_run SET started_at = strftime('%Y-%m-%dT%H:%M:%fZ','now','-200 seconds')")
        on.sql("UPDATE dispatcher SET well_since = strftime('%Y-%m-%dT%H:%M:%fZ','now','-200 seconds')")
        return on.told("sweep_silent", "The last sweep began")


def deaf_feeds(on: OnCall) -> Told:
    token = make_user_token(on._secret, "o-1", ttl_seconds=600)
    request = urllib.request.Request(
        on.system.url + "/v1/works/feed", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=30):
        on.sql("ALTER TABLE work_change RENAME TO work_change_away")
        try:
            return on.told("feed_deaf", "")
        finally:
            on.sql("ALTER TABLE work_change_away RENAME TO work_change")


def full_disk(on: OnCall) -> Told:
    filler = on.system.data_dir / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))
    try:
        return on.told("disk_full", "is full")
    finally:
        filler.unlink()


TROUBLES: dict[str, Callable[[OnCall], Told]] = {
    "hung at 40 %": hung,
    "a service's 500s": fails_500,
    "its 429s": too_many,
    "wrong key": wrong_key,
    "user without credits": no_credits,
    "user at a limit": at_limit,
    "paused type": paused_type,
    "full queue": full_queue,
    "broker frozen": frozen_broker,
    "webhook address down": webhook_down,
    "remote job stuck for 33 min": stuck_remote,
    "feed storm": feed_storm,
    "own: paused service": paused_provider,
    "own: every task of a free type fails": free_type_fails,
    "own: the feed's log can't be read": deaf_feeds,
    "own: sweeps have stopped": silent_sweep,
    "poison": poison,
    "dispatcher frozen": frozen_dispatcher,
    "workers frozen": frozen_workers,
    "disk full": full_disk,
}


@contextlib.contextmanager
def small_disk() -> Iterator[Path | None]:
    """A folder on a disk of its own, None where none can be mounted."""
    with tempfile.TemporaryDirectory(prefix="dk-call-") as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder],
            capture_output=True,
            check=False,
        )
        try:
            yield Path(folder) if mounted.returncode == 0 else None
        finally:
            if mounted.returncode == 0:
                subprocess.run(["umount", "--lazy", folder], check=False)


def main(wanted: Sequence[str]) -> None:
    """Print the table, line by line."""
    with small_disk() as disk, tempfile.TemporaryDirectory(prefix="dk-mood-") as folder:
        mood = Path(folder) / "mood"
        mood.write_text("well")
        options = {**SETTINGS, "PROVIDERS__moody__OPTIONS__mood": str(mood)}
        with running_system(disk, **options) as system:
            on = OnCall(system, mood)
            print(f"{'trouble':38} {'/ops':>8} {'show':>8} {'tasks':>8}", flush=True)
            for name, make in TROUBLES.items():
                if (wanted and name not in wanted) or (disk is None and make is full_disk):
                    continue
                try:
                    told = make(on)
                    print(f"{name:38} {told.page!s:>8} {told.show!s:>8} {told.tasks!s:>8}", flush=True)
                except (OSError, sqlite3.Error) as error:
                    print(f"{name:38} not made: {error}", flush=True)
                with contextlib.suppress(OSError, sqlite3.Error):
                    on.until_well()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if os.geteuid() == 0 and "DARKROOM_BENCH_MOUNTS" not in os.environ:  # mounts of our own, gone with us
        os.environ["DARKROOM_BENCH_MOUNTS"] = "own"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, "-m", "bench.on_call", *sys.argv[1:]])
    os.environ.pop("DARKROOM_BENCH_MOUNTS", None)
    main(sys.argv[1:])
