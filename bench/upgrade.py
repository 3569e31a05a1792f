"""A rolling upgrade under load on both databases: `make bench ARGS="upgrade OLD=<commit>"`.

Two webs, two dispatchers, two workers and a scheduler of the older build run apart, over an external broker.  Customers
order by HTTP and follow their feeds all the while.  Then `darkroom migrate` of this build runs, and each part is
replaced by this build's, as docs/operating.md says: at once a new worker beside the old ones, and the dispatchers; then
the others, with some seconds after each in which both builds work side by side.

A client is sent to the other web when one refuses a connection or answers 503, as a proxy does.  An order that neither
web accepts, or that does not end completed and paid once, has failed.  A pause of dispatch is a time in which a task
waits and none starts.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.against import OLD, tree_of
from bench.peers.running import new_database
from bench.postgres_server import postgres_server
from supervisor.net.ports import free_port
from supervisor.processes.parent_death import dying_with_us
from supervisor.security.tokens import make_user_token
from tests.support.models.exactly_once import OPEN_TASKS, asked, faults_in
from tests.support.running_system import REPOSITORY, SAMPLE
from tests.support.servers.broker_server import broker_server
from tests.support.waiting import eventually

USERS = ("o-1", "o-2", "o-3", "o-4")
ORDERS_A_SECOND = 2.0
TASK_SECONDS = 1.0
SIDE_BY_SIDE_SECONDS = 5.0  # between two replacements
ORDER_SECONDS = 15.0  # an order that no web accepts in this time has failed
START_SECONDS, DRAIN_SECONDS = 120.0, 30.0
ALL_DONE_SECONDS = 120.0
# As docs/operating.md has it.
AT_ONCE, EXTRA = ("dispatcher-1", "dispatcher-2"), "worker-3"
ORDER = ("worker-1", "worker-2", "scheduler-1", "web-1", "web-2")
SECRET = "a secret of the bench, long enough for HS256"
PROGRAM = "from supervisor.cli.main import main; main()"


def run() -> dict[str, str]:
    """{what: figures} of both databases.  Raises RuntimeError when an order, a change or a credit was lost."""
    old = os.environ.get(OLD)
    if not old:
        raise SystemExit('Say which build is the older one: make bench ARGS="upgrade OLD=<commit>".')
    shown: dict[str, str] = {}
    kinds = os.environ.get("BENCH_KINDS", "sqlite,postgresql").split(",")
    with tree_of(old) as tree, postgres_server() as server:
        for kind in kinds:
            with broker_server() as broker, tempfile.TemporaryDirectory(prefix="dr-roll-") as name:
                folder = Path(name)
                url = (
                    new_database(server, "roll")
                    if kind == "postgresql"
                    else f"sqlite:///{folder}/darkroom.db"
                )
                with _House(folder, url, broker.address) as house:
                    shown |= {f"{kind}: {what}": figures for what, figures in _upgrade(house, tree).items()}
    return shown


class _House:
    """Parts of either build that share a database, a broker and a folder of pictures."""

    def __init__(self, folder: Path, url: str, broker: str) -> None:
        self.folder, self.url = folder, url
        self.probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.probe.bind(str(folder / "probe"))
        self.addresses: dict[str, str] = {}
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = {name: str(free_port("127.0.0.1")) for name in ("web-1", "web-2")}
        settings = {
            "DATABASE_URL": url,
            "BROKER_URL": broker,
            "STORAGE_URL": f"file://{folder}/files",
            "SECRET": SECRET,
            "CONFIG": "",
            "WORKER_PROCESSES": "1",
            "WORKER_THREADS": "4",
            "CREDITS__ENABLED": "true",
            "CREDITS__SIGNUP_GRANT": "100000",
            "LIMITS__OPEN_TASKS_PER_USER": "0",
            "LIMITS__RUNNING_TASKS_PER_USER": "0",
            "DRAIN_SECONDS": str(int(DRAIN_SECONDS)),
            "TASKS__probe__PROVIDER": "probe",
            "PROVIDERS__probe__KIND": "python",
            "PROVIDERS__probe__OPTIONS__class": "bench.probe:ProbeProvider",
            "PROVIDERS__probe__OPTIONS__socket": str(folder / "probe"),
            "PROVIDERS__probe__OPTIONS__wait_seconds": str(TASK_SECONDS),
        }
        self._environ = {
            name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")
        }
        self._environ |= {f"DARKROOM_{name}": value for name, value in settings.items()}

    def __enter__(self) -> _House:
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._parts.values():
            part.kill()
            part.wait()
        self.probe.close()

    def migrate(self, tree: Path) -> None:
        subprocess.run(
            [sys.executable, "-P", "-c", PROGRAM, "migrate"],
            env=self._environ_of(tree, "migrate"),
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def start(self, name: str, tree: Path) -> None:
        """Returns when the part can work."""
        self.launch(name, tree)()

    def launch(self, name: str, tree: Path) -> Callable[[], None]:
        """Start the part; what returns when it can work."""
        kind = name.partition("-")[0]
        environ = self._environ_of(tree, name)
        if kind == "web":
            environ["DARKROOM_PORT"] = self._ports[name]
        live = self._live_workers()
        with (self.folder / f"{name}.log").open("ab") as log:
            self._parts[name] = subprocess.Popen(
                dying_with_us([sys.executable, "-P", "-c", PROGRAM, kind]),
                env=environ,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        if kind == "web":
            self.addresses[name] = f"http://127.0.0.1:{self._ports[name]}"
        return lambda: self._wait_until_up(name, live)

    def _wait_until_up(self, name: str, live: int) -> None:
        """live: the live workers before its start."""

        def is_up() -> bool:
            self._goes_on(name)
            if name in self.addresses:
                return _is_ready(self.addresses[name])
            return not name.startswith("worker") or self._live_workers() > live

        eventually(f"{name} is up", is_up, START_SECONDS)

    def replace(self, name: str, tree: Path) -> float:
        """Stop the part politely, start its successor.  Seconds for which it was away."""
        began = time.monotonic()
        part = self._parts.pop(name)
        part.send_signal(signal.SIGTERM)
        part.wait(DRAIN_SECONDS + 30)
        self.start(name, tree)
        return time.monotonic() - began

    def check(self) -> None:
        """Raises RuntimeError if a part has ended by itself."""
        for name in self._parts:
            self._goes_on(name)

    def _goes_on(self, name: str) -> bool:
        if (status := self._parts[name].poll()) is not None:
            said = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{name} ended by itself with status {status}: {said}")
        return True

    def _environ_of(self, tree: Path, name: str) -> dict[str, str]:
        data_dir = self.folder / name
        data_dir.mkdir(exist_ok=True)
        return {**self._environ, "PYTHONPATH": str(tree), "DARKROOM_DATA_DIR": str(data_dir)}

    def _live_workers(self) -> int:
        return int(asked(self.url, "SELECT count(*) FROM worker WHERE state = 'live'")[0][0])


class _Customers:
    """Threads that order and follow feeds.  accepted: {task: when its order was answered}."""

    def __init__(self, house: _House) -> None:
        self.house = house
        self.accepted: dict[str, float] = {}
        self.failed: list[str] = []
        self.passed_on = 0
        self.slowest_order = 0.0
        self.seen: dict[str, list[int]] = {user: [] for user in USERS}
        self.faults: list[str] = []
        self.resumed = 0
        self.started: list[tuple[float, str]] = []
        self._ordered, self._over = threading.Event(), threading.Event()
        self._tokens = {user: make_user_token(SECRET, user, ttl_seconds=3600) for user in USERS}
        self._images = {user: self._upload(user) for user in USERS}
        self._ordering = threading.Thread(target=self._order)
        self._watching = [threading.Thread(target=self._watch, args=(user,)) for user in USERS]
        self._noting = threading.Thread(target=self._note)

    def __enter__(self) -> _Customers:
        for thread in (self._ordering, self._noting, *self._watching):
            thread.start()
        return self

    def stop_ordering(self) -> None:
        self._ordered.set()
        self._ordering.join()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.stop_ordering()
        for thread in (self._noting, *self._watching):
            thread.join()

    def _request(
        self, web: str, user: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> urllib.request.Request:
        authorized = {"Authorization": f"Bearer {self._tokens[user]}"} | (headers or {})
        return urllib.request.Request(self.house.addresses[web] + path, body, authorized)

    def _upload(self, user: str) -> str:
        picture = {"Content-Type": "image/png"}
        request = self._request("web-1", user, "/v1/images", SAMPLE.read_bytes(), picture)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["id"])

    def _order(self) -> None:
        began = time.monotonic()
        for n in itertools.count():
            if self._ordered.wait(max(0.0, began + n / ORDERS_A_SECOND - time.monotonic())):
                return
            self._order_one(n)

    def _order_one(self, n: int) -> None:
        user = USERS[n % len(USERS)]
        body = json.dumps({"type": "probe", "params": {"images": [self._images[user]]}}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"order-{n}"}
        began, said = time.monotonic(), ""
        for turn in itertools.count(n):
            if time.monotonic() - began > ORDER_SECONDS:
                self.failed.append(f"order {n}: {said}")
                return
            web = f"web-{1 + turn % 2}"
            asking = self._request(web, user, "/v1/tasks", body, headers)
            try:
                with urllib.request.urlopen(asking, timeout=ORDER_SECONDS) as answer:
                    task = json.load(answer)["task_id"]
            except urllib.error.HTTPError as error:
                said = f"{web} answered {error.code}: {error.read()[:300]!r}"
                if error.code != 503:
                    self.failed.append(f"order {n}: {said}")
                    return
            except (OSError, http.client.HTTPException) as error:
                said = f"{web}: {error!r}"
            else:
                self.accepted[task] = time.monotonic()
                self.slowest_order = max(self.slowest_order, time.monotonic() - began)
                return
            self.passed_on += 1
            time.sleep(0.05)

    def _watch(self, user: str) -> None:
        last = ""
        for turn in itertools.count():
            if self._over.is_set():
                return
            headers = {"Last-Event-ID": last} if last else {}
            request = self._request(f"web-{1 + turn % 2}", user, "/v1/works/feed", headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=30) as stream:
                    self.resumed += bool(last)
                    last = self._follow(user, stream, last)
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    self.faults.append(f"{user}: the feed was answered {error.code}")
            except (OSError, http.client.HTTPException):
                pass
            self._over.wait(0.05)

    def _follow(self, user: str, stream: Any, last: str) -> str:
        """Read until the stream ends; the id to resume from."""
        fields: dict[str, str] = {}
        with contextlib.suppress(OSError, http.client.HTTPException):
            for line in stream:
                if self._over.is_set():
                    break
                if text := line.decode().rstrip("\r\n"):
                    name, _, value = text.partition(":")
                    fields[name] = value.removeprefix(" ")
                    continue
                if fields.get("event") == "bye":
                    break
                if "id" in fields:
                    last = fields["id"]
                if fields.get("event") == "reset":
                    self.faults.append(f"{user}: the feed began anew")
                if fields.get("event") == "change":
                    self.seen[user].append(json.loads(fields["data"])["id"])
                fields = {}
        return last

    def _note(self) -> None:
        """When each task reached its service."""
        self.house.probe.settimeout(0.2)
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                task, _, at = self.house.probe.recv(200).decode().partition(" ")
                self.started.append((int(at) / 1e9, task))


def _upgrade(house: _House, tree: Path) -> dict[str, str]:
    house.migrate(tree)
    for name in (*AT_ONCE, *ORDER):
        house.start(name, tree)
    stages: list[tuple[str, float]] = []
    with _Customers(house) as customers:

        def side_by_side(what: str) -> None:
            stages.append((what, time.monotonic()))
            time.sleep(SIDE_BY_SIDE_SECONDS)
            house.check()

        side_by_side("old build alone")
        began = time.monotonic()
        house.migrate(REPOSITORY)
        migrated = time.monotonic()
        is_there = house.launch(EXTRA, REPOSITORY)
        for name in AT_ONCE:
            house.replace(name, REPOSITORY)
        is_there()
        took = f"{migrated - began:.1f} s, then dispatchers replaced and a worker added in"
        side_by_side(f"migrated in {took} {time.monotonic() - migrated:.1f} s")
        for name in ORDER:
            away = house.replace(name, REPOSITORY)
            side_by_side(f"{name} replaced in {away:.1f} s")
        customers.stop_ordering()
        stages.append(("no more orders", time.monotonic()))
        with contextlib.suppress(AssertionError):
            eventually("all done", lambda: asked(house.url, OPEN_TASKS) == [(0,)], ALL_DONE_SECONDS)
        newest = dict(asked(house.url, "SELECT user_openid, seq FROM account"))
        with contextlib.suppress(AssertionError):
            eventually(
                "feeds are read",
                lambda: all((seen or [0])[-1] >= newest[user] for user, seen in customers.seen.items()),
                30,
            )
    return _told(house, customers, newest, stages)


def _told(
    house: _House, customers: _Customers, newest: dict[str, int], stages: list[tuple[str, float]]
) -> dict[str, str]:
    gaps = [
        f"{user} was told {len(seen)} changes of {newest[user]}, first {seen[:1]}, last {seen[-1:]}"
        for user, seen in customers.seen.items()
        if seen != list(range(newest[user] - len(seen) + 1, newest[user] + 1)) or not seen
    ]
    known = {row[0] for row in asked(house.url, "SELECT id FROM task_queue WHERE status = 'completed'")}
    lost = [f"{task} was accepted and not completed" for task in customers.accepted if task not in known]
    wrong = [*customers.failed, *lost, *customers.faults, *gaps, *map(str, faults_in(house.url).items())]
    if wrong:
        for log in sorted(house.folder.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
        raise RuntimeError(f"{len(wrong)} faults, of them: {wrong[:8]}")
    pause, waited, at = _longest_pause(customers)
    during = [what for what, began in stages if began <= at][-1]
    again = sum(count - 1 for count in Counter(task for _, task in customers.started).values())
    return {
        "orders": f"{len(customers.accepted)} accepted, completed and paid once; 0 failed; "
        f"{customers.passed_on} requests were passed on to the other web; "
        f"the slowest took {customers.slowest_order:.2f} s",
        "feeds": f"{sum(map(len, customers.seen.values()))} changes without a gap; resumed {customers.resumed} times",
        "dispatch": f"longest pause {pause:.2f} s, after: {during}; longest wait of a task {waited:.2f} s; "
        f"{again} ran twice, as a drain ended their first attempt",
        "stages": "; ".join(f"{began - stages[0][1]:.0f} s: {what}" for what, began in stages),
        "load of the machine": " ".join(f"{each:.1f}" for each in os.getloadavg()),
    }


def _longest_pause(customers: _Customers) -> tuple[float, float, float]:
    """(seconds in which a task waited and none started, seconds that one task waited, when that pause began)."""
    first: dict[str, float] = {}
    for at, task in sorted(customers.started):
        first.setdefault(task, at)
    waits = sorted((at, customers.accepted[task]) for task, at in first.items() if task in customers.accepted)
    longest, began, before = 0.0, 0.0, 0.0
    for n, (at, _) in enumerate(waits):
        since = max(before, min(accepted for _, accepted in waits[n:]))
        if at - since > longest:
            longest, began = at - since, since
        before = at
    return longest, max(at - accepted for at, accepted in waits), began


def _is_ready(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
        return bool(answer.status == 200)
    return False
